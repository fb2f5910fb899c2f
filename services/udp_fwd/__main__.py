"""python -m services.udp_fwd: one worker for UDP and ICMP echo."""

import netstack.runtime.uncollected  # noqa: F401 - first: what follows is imported without collections
from netstack.runtime.service import run
from services.udp_fwd.service import start

if __name__ == "__main__":
    run("udp_fwd", start, "Forward UDP and ICMP echo between the captured network and the world.")
