"""What the processes say to each other: the catalogue of messages, the links, and the bus."""
