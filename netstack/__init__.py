"""The kernel of Netstack: what two services share, and the command line."""

__version__ = "0.1.0"
