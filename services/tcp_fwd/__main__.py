"""The process `python -m services.tcp_fwd`."""

from netstack.runtime.service import run
from services.tcp_fwd.service import start

run("tcp_fwd", start, "Translate the client's TCP into host sockets and back.")
