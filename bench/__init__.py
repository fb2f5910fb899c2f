"""Benchmarks: Netstack beside slirp4netns, pasta and the bare kernel, in network namespaces of their own."""
