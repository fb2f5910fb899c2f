"""The internet of tests/compose/on_engine.py, in one container: a DNS server, a web server and a UDP echo.

Knows one name, web.test, which leads to the address given as the only argument.
"""

import socketserver
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


class Dns(socketserver.BaseRequestHandler):
    def handle(self):
        octets, reply_to = self.request
        query = dns.message.from_wire(octets)
        question = query.question[0]
        response = dns.message.make_response(query, recursion_available=True)
        if question.name.to_text() != "web.test.":
            response.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.A:
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", sys.argv[1]))
        reply_to.sendto(response.to_wire(), self.client_address)


class Web(BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"hello\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        octets, reply_to = self.request
        reply_to.sendto(octets, self.client_address)


def main():
    # Ports below 1024 are everybody's in a container (net.ipv4.ip_unprivileged_port_start is 0 there).
    servers = [
        socketserver.ThreadingUDPServer(("0.0.0.0", 53), Dns),
        socketserver.ThreadingUDPServer(("0.0.0.0", 7), Echo),
        ThreadingHTTPServer(("0.0.0.0", 80), Web),
    ]
    threads = [Thread(target=server.serve_forever) for server in servers]
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    main()
