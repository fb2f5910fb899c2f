"""UDP datagrams and ICMP echo requests of the client to host sockets, and back."""
