"""The TCP translator: segments of the client on one side, an ordinary socket on the other."""
