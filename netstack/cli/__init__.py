"""The netstack command and the supervisor."""
