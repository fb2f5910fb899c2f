"""Octets <-> meaning. No I/O, no clock."""
