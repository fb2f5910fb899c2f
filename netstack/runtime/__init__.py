"""How a process runs: configuration, readiness, logging, counters, tracing."""
