"""tracker: the whitelist. Leases on addresses, verdicts on endpoints, and the proxy of the events link."""
