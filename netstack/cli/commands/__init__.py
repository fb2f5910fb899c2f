"""One command per module; `netstack.cli.main` imports the one that is run."""
