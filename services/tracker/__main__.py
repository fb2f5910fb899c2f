"""`python -m services.tracker`."""

from netstack.runtime.service import run
from services.tracker.service import start

run("tracker", start, "Keeps the whitelist: leases on the addresses that names were answered with.")
