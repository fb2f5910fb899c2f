"""Who lives in the small internet: names, addresses, and what answers there."""

HOST_V4, HOST_V6 = "198.18.0.2", "2001:2:0:1::2"
ROUTER_V4, ROUTER_V6 = "198.18.0.1", "2001:2:0:1::1"
DNS = ROUTER_V4

SERVERS_V4, SERVERS_V6 = "198.18.1.0/24", "2001:2:0:2::/64"
"""Every address in them is the servers'. The benchmarking ranges of RFC 2544 and RFC 5180: not routed anywhere."""

MANY_V4, MANY_V6 = "198.18.6.0/24", "2001:2:0:6::/64"
FRESH_V4, FRESH_V6 = "198.19.0.0/16", "2001:2:0:9::/64"
"""An address for each name of fresh_names.py; the servers' while a test says so."""
BLACKHOLE_V4, BLACKHOLE_V6 = "198.18.2.0/24", "2001:2:0:3::/64"
UNREACHABLE_V4, UNREACHABLE_V6 = "198.18.3.0/24", "2001:2:0:4::/64"
PROHIBITED_V4, PROHIBITED_V6 = "198.18.4.0/24", "2001:2:0:5::/64"
NOWHERE_V4 = "198.18.5.0/24"
REJECTED_V4, REJECTED_V6 = "198.18.10.0/24", "2001:2:0:10::/64"
"""A router answers for each host there with an ICMP error of its own: a code of "unreachable" by the last octet."""

WWW_V4, WWW_V6 = "198.18.1.10", "2001:2:0:2::10"
UNNAMED_V4, UNNAMED_V6 = "198.18.1.20", "2001:2:0:2::20"
"""Servers answer there, but no name leads to it: what a hard-coded address is."""
OFFERS_V4, OFFERS_V6 = "198.18.1.17", "2001:2:0:2::17"
"""A web server that offers HTTP/3; its neighbour, one address higher, has the same page and does not."""
ECHO_V4, ECHO_V6 = "198.18.1.30", "2001:2:0:2::30"
ENCRYPTED_DNS_V4, ENCRYPTED_DNS_V6 = "198.18.1.53", "2001:2:0:2::53"
FAR_V4, FAR_V6 = "198.18.8.2", "2001:2:0:8::2"
"""A host behind one more router, over a link of a smaller MTU; there while a test made it (tests.internet.far)."""

# Ports of servers.py; 7 is RFC 862's.
ECHO_PORT = 7
AFTER_EOF_PORT = 2000
RESET_PORT = 2001
CLOSED_PORT = 2999
MIRROR_PORT = 2002
COUNTER_PORT = 2003
NTP_PORT = 123
OTHER_DNS_PORT = 5300
DOH_PORT = 8443
IPERF_PORT = 5201
FRESH_PORT = 5400

MANY = 200

_ZONE = f"""
$ORIGIN test.
$TTL 300
@           SOA   ns admin 1 3600 600 86400 60
@           NS    ns
ns          A     {ROUTER_V4}
ns          AAAA  {ROUTER_V6}
www         A     {WWW_V4}
www         AAAA  {WWW_V6}
v4          A     198.18.1.11
v6          AAAA  2001:2:0:2::11
alias       CNAME alias2
alias2      CNAME www
echo        A     {ECHO_V4}
echo        AAAA  {ECHO_V6}
echo4       A     {ECHO_V4}
echo6       AAAA  {ECHO_V6}
far         A     {FAR_V4}
far         AAAA  {FAR_V6}
fartoo      A     198.18.8.3
fartoo      AAAA  2001:2:0:8::3
short    1  A     198.18.1.12
https       HTTPS 1 . alpn=h3,h2 ipv4hint=198.18.1.13
https       A     198.18.1.13
offers      HTTPS 1 . alpn=h3,h2
offers      A     {OFFERS_V4}
offers      AAAA  {OFFERS_V6}
plain       HTTPS 1 . alpn=h2
plain       A     198.18.1.18
plain       AAAA  2001:2:0:2::18
ech         HTTPS 1 . alpn=h2 ech=AARBQkNE
moved       DNAME below
www.below   A     198.18.1.15
nat64       AAAA  64:ff9b::a01:203
nat64       AAAA  2001:2:0:2::16
rebind      A     10.1.2.3
mixed       A     10.1.2.3
mixed       A     198.18.1.14
ads         A     198.18.1.40
dns         A     {ENCRYPTED_DNS_V4}
dns6        AAAA  {ENCRYPTED_DNS_V6}
silent      A     198.18.2.1
silent      AAAA  2001:2:0:3::1
unreachable A     198.18.3.1
unreachable AAAA  2001:2:0:4::1
unreachable6 AAAA 2001:2:0:10::3
prohibited  A     198.18.4.1
prohibited6 AAAA  2001:2:0:5::1
nowhere     A     198.18.5.1
nowhere6    AAAA  2001:2:0:4::2
rejected    A     198.18.10.1
rejected    A     198.18.10.3
rejected    A     198.18.10.9
rejected    A     198.18.10.10
rejected    A     198.18.10.13
rejected    AAAA  2001:2:0:10::1
rejected    AAAA  2001:2:0:10::3
rejected    AAAA  2001:2:0:10::4
rejected    AAAA  2001:2:0:10::5
rejected    AAAA  2001:2:0:10::6
"""


def zone_file() -> str:
    """The zone `test.` in the form of RFC 1035 section 5."""
    many = [f"n{index:03} A 198.18.6.{index}" for index in range(MANY)]
    many += [f"m{index:03} AAAA 2001:2:0:6::{index:x}" for index in range(MANY)]
    big = [f"big A 198.18.1.{index}" for index in range(100, 200)]
    text = [f'big TXT "{index:03} {"x" * 200}"' for index in range(20)]
    return "\n".join([_ZONE, *many, *big, *text, ""])


def unbound_conf(directory: str) -> str:
    """An authoritative server on port 53 (UDP, TCP), 853 (DoT) and DOH_PORT (DoH, path /dns-query)."""
    return f"""
server:
    directory: "{directory}"
    chroot: ""
    username: ""
    pidfile: ""
    use-syslog: no
    logfile: "{directory}/unbound.log"
    verbosity: 1
    log-queries: yes
    module-config: "iterator"
    interface: {ROUTER_V4}@53
    interface: {ROUTER_V6}@53
    interface: {ROUTER_V4}@{DOH_PORT}
    interface: {ROUTER_V4}@{OTHER_DNS_PORT}
    interface: {ROUTER_V6}@{OTHER_DNS_PORT}
    interface: {ENCRYPTED_DNS_V4}@853
    interface: {ENCRYPTED_DNS_V6}@853
    https-port: {DOH_PORT}
    tls-port: 853
    tls-service-pem: "{directory}/server.pem"
    tls-service-key: "{directory}/server.key"
    access-control: 0.0.0.0/0 allow
    access-control: ::/0 allow
    local-zone: "test." nodefault
    so-rcvbuf: 1m
remote-control:
    control-enable: no
auth-zone:
    name: "test."
    zonefile: "{directory}/test.zone"
    for-downstream: yes
    for-upstream: no
"""


def nginx_conf(directory: str) -> str:
    """HTTP on 80 and HTTPS on 443 of every address; GET of files/, PUT below /upload/, who asked at /whoami."""
    return f"""
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log warn;
worker_rlimit_nofile 8192;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type application/octet-stream;
    sendfile on;
    keepalive_requests 1000000;
    client_body_temp_path {directory}/nginx-tmp;
    client_max_body_size 0;
    proxy_temp_path {directory}/nginx-tmp; fastcgi_temp_path {directory}/nginx-tmp;
    uwsgi_temp_path {directory}/nginx-tmp; scgi_temp_path {directory}/nginx-tmp;
    ssl_certificate {directory}/server.pem;
    ssl_certificate_key {directory}/server.key;
    server {{
        listen {OFFERS_V4}:443 ssl; listen [{OFFERS_V6}]:443 ssl;
        listen 198.18.1.18:443 ssl; listen [2001:2:0:2::18]:443 ssl;
        root {directory}/files;
        default_type text/html;
        types {{ image/svg+xml svg; }}
        keepalive_timeout 0; # each request has a connection of its own, and each time a browser may choose
        set $offer "";
        if ($server_addr ~ "17$") {{ set $offer 'h3=":443"; ma=3600'; }}
        add_header alt-svc $offer;
    }}
    server {{
        listen 80 backlog=4096 reuseport; listen [::]:80 backlog=4096 ipv6only=on;
        listen 443 ssl http2; listen [::]:443 ssl http2 ipv6only=on;
        root {directory}/files;
        location /upload/ {{ dav_methods PUT; create_full_put_path on; root {directory}; }}
        location /whoami {{ return 200 "$remote_addr\\n"; }}
    }}
}}
"""
