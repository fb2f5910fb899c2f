"""A small internet in namespaces: a user's machine, a router, and real servers behind it. For tests and benchmarks.

    host (198.18.0.2, 2001:2:0:1::2) ---- net (198.18.0.1, 2001:2:0:1::1; the servers' addresses are its own)

`Internet` is a context manager; everything it starts lives in two PID namespaces and ends with them, whatever happens
to the process that made it.
"""

from tests.internet.capture import Capture, Packet
from tests.internet.machine import Finished, Machine, Running, wait_until
from tests.internet.sandbox import Sandbox
from tests.internet.world import Internet, missing

__all__ = ["Capture", "Finished", "Internet", "Machine", "Packet", "Running", "Sandbox", "missing", "wait_until"]
