"""The process `python -m services.tcp_fwd`."""

import netstack.runtime.uncollected  # noqa: F401 - first: what follows is imported without collections
from netstack.runtime.service import run
from services.tcp_fwd.service import start

run("tcp_fwd", start, "Translate the client's TCP into host sockets and back.")
