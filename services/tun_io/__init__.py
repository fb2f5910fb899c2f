"""Reads and writes the TUN, says what each packet is, and spreads flows over the workers."""
