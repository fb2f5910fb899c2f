"""`python -m services.dns_filter`."""

from netstack.runtime.service import run
from services.dns_filter.service import start

run("dns_filter", start, "Answers every port-53 query through the upstream resolver; leases the addresses first.")
