"""The DNS filter: answers port-53 queries through the upstream; tells the tracker before it tells the client."""
