"""`python -m services.tracker`."""

import netstack.runtime.uncollected  # noqa: F401 - first: what follows is imported without collections
from netstack.runtime.service import run
from services.tracker.service import start

run("tracker", start, "Keeps the whitelist: leases on the addresses that names were answered with.")
