"""Host sockets: UDP with GRO and segmentation, and ping sockets for ICMP echo; both with their error queues."""

import asyncio
import errno
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Final

from netstack.packet import errqueue
from netstack.packet.errqueue import SocketError
from services.udp_fwd import arrival
from services.udp_fwd.flows import Sockaddr
from services.udp_fwd.lane import MAX_OCTETS, MAX_SEGMENTS, Frame
from services.udp_fwd.outgoing import Header
from services.udp_fwd.reply import UNKNOWN, Arrived
from services.udp_fwd.train import calls

BURST: Final = 64  # receives per turn of the loop
BURST_OCTETS: Final = 512 << 10
_BUFFER: Final = 4 << 20  # octets; the kernel takes what net.core.rmem_max and wmem_max allow
_LARGEST: Final = 65535  # octets; of a datagram, and of what GRO makes of several
_ROOM: Final = memoryview(bytearray(BURST_OCTETS + _LARGEST))
"""What a burst is received into, of whatever socket: it is dealt with before the next one."""
_ANCILLARY: Final = 4 * socket.CMSG_SPACE(4)  # the size of GRO's segments, TTL, TOS, flow label
_ERROR_ANCILLARY: Final = _ANCILLARY + errqueue.ANCILLARY
_ERROR_QUOTE: Final = 64  # octets of what we sent, of which only an echo header is read

# Not in the socket module of Python 3.11: linux/udp.h, linux/in.h, linux/in6.h.
_UDP_SEGMENT: Final = 103
_IP_MTU_DISCOVER: Final = 10
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_DONT: Final = 0  # never set DF; fragment where needed
_PMTUDISC_DO: Final = 2  # always set DF; EMSGSIZE above the path MTU

_UNPRIVILEGED: Final = 1024  # a well-known port of this host is never taken for a client
_NEIGHBOURS: Final = (0, 2, 4, 8)  # RFC 4787 REQ-4: parity is kept, so that RTP and RTCP stay what they are

_SEGMENT_SIZE: Final = struct.Struct("=H")
# Segmentation that this route or device cannot do is done here instead.
_NO_SEGMENTATION: Final = frozenset({errno.EINVAL, errno.EIO, errno.EMSGSIZE})


# What the kernel is to tell of each packet, and IPv6 to take from the address that is sent to.
_WANTED_V4: Final = (errqueue.IP_RECVERR, arrival.IP_RECVTTL, arrival.IP_RECVTOS)
_WANTED_V6: Final = (
    errqueue.IPV6_RECVERR, arrival.IPV6_RECVHOPLIMIT, arrival.IPV6_RECVTCLASS, arrival.IPV6_FLOWINFO,
    arrival.IPV6_FLOWINFO_SEND,
)  # fmt: skip


class Received:
    """A datagram, or several of one sender that came one after the other and are alike."""

    __slots__ = ("arrived", "octets", "segment", "sender")

    def __init__(self, octets: bytes | memoryview, segment: int, sender: Sockaddr, arrived: Arrived) -> None:
        self.octets = octets
        """They hold until the next receive of any socket."""
        self.segment = segment
        """Size of the datagrams in it where there are several (the last may be shorter), else 0."""
        self.sender = sender
        self.arrived = arrived


class HostSocket:
    """One non-blocking, unconnected datagram socket of one mapping."""

    def __init__(self, loop: asyncio.AbstractEventLoop, version: int, protocol: int, on_error: "OnError") -> None:
        """protocol is that of the socket: UDP, ICMP or ICMPv6. Raises OSError.

        on_error gets the entries of the error queue, each with where a packet was to go and the start of that packet.
        """
        four = version == 4
        family = socket.AF_INET if four else socket.AF_INET6
        self._loop = loop
        self._on_error = on_error
        self._header: Header | None = None
        self._burst = 1
        self._most = BURST if protocol == socket.IPPROTO_UDP else 1  # an echo has one reply
        self._segments = protocol == socket.IPPROTO_UDP
        self._joins = MAX_SEGMENTS - 1 if self._segments else 0  # datagrams that may join one; echo replies stay alone
        self._train_ancillary: list[tuple[int, int, bytes]] = []
        self._train_size = 0
        self._flow_labels = not four
        self._ancillary: list[tuple[int, int, bytes]] = []
        self._segment = 0
        self._arrived = UNKNOWN
        self._ttl_option = (socket.IPPROTO_IP, socket.IP_TTL) if four else (
            socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)  # fmt: skip
        self._tos_option = (socket.IPPROTO_IP, socket.IP_TOS) if four else (
            socket.IPPROTO_IPV6, socket.IPV6_TCLASS)  # fmt: skip
        self._df_option = (socket.IPPROTO_IP, _IP_MTU_DISCOVER) if four else (
            socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)  # fmt: skip
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
        try:
            self._set_options(four=four)
        except OSError:
            self._socket.close()
            raise

    def keep_port(self, port: int) -> None:
        """Send from the client's own port where it is free on this host, or from one near it (RFC 4787 REQ-3, REQ-4).

        Call it before anything is sent. Where none is to be had the kernel chooses one, as it does without this.
        """
        if port < _UNPRIVILEGED:
            return
        for each in (port + more for more in _NEIGHBOURS):
            try:
                self._socket.bind(("", each))
            except (OSError, OverflowError):  # taken, forbidden, or beyond the last port
                continue
            return

    def send(self, to: Sockaddr, payloads: list[bytes], header: Header) -> int:
        """Send one datagram, or a train of equal ones (the last may be shorter); 0, or the errno that ended it."""
        if header != self._header:
            self._set_header(header)
        if header.flow_label and self._flow_labels:
            segments = self._segments
            number = self._send_all((*to[:2], header.flow_label, 0), payloads)
            if number != errno.EINVAL:
                return number
            self._segments = segments
            # Somebody on this host has a flow label to himself, and then each must be asked for (fl6_sock_lookup).
            self._flow_labels = False
        return self._send_all(to, payloads)

    def send_joined(self, to: Sockaddr, parts: list[Frame], size: int, header: Header) -> int:
        """Send what lies in the parts, one behind the other: datagrams of `size` octets each, the last may be shorter.

        At most MAX_SEGMENTS, of MAX_OCTETS together. 0, or the errno that ended it.
        """
        number = errno.EINVAL
        if self._segments and (len(parts) > 1 or len(parts[0]) > size) and not header.flow_label:
            if header is not self._header:
                if header != self._header:
                    self._set_header(header)
                self._header = header
            number = self._send_train(parts, size, to)
        if number not in _NO_SEGMENTATION:
            return number
        payload = b"".join(parts)
        payloads = [payload[at : at + size] for at in range(0, len(payload), size)] if size else [payload]
        return self.send(to, payloads, header)

    def send_single(self, to: Sockaddr, payload: Frame, header: Header) -> int:
        """Send one packet, which is as `send` does it."""
        if header.flow_label:
            return self.send(to, [bytes(payload)], header)
        if header is not self._header:
            if header != self._header:
                self._set_header(header)
            self._header = header
        return self._send_one(payload, to)

    def receive_single(self) -> Received | None:
        """One packet, as `receive` would give it; None where there is none."""
        try:
            octets, ancillary, _, sender = self._socket.recvmsg(_LARGEST, _ANCILLARY)
        except OSError:
            return None
        if ancillary != self._ancillary:
            self._ancillary = ancillary
            self._segment, self._arrived = arrival.parse(ancillary)
        return Received(octets, 0, sender, self._arrived)

    def receive(self) -> list[Received]:
        """A burst of what has come in; nothing where the socket is readable because of an error.

        A burst is one receive at first and grows while there is more: a flow of single answers is not made to pay for
        a receive that finds nothing.
        """
        received: list[Received] = []
        start = used = 0  # of the train at hand, in the room
        count = size = room = 0  # datagrams in it, their size, and how many more fit
        whom: Sockaddr = ()
        take = self._socket.recvmsg_into
        for taken in range(self._burst):
            try:
                length, ancillary, _, sender = take([_ROOM[used:]], _ANCILLARY)
            except OSError:  # nothing more (BlockingIOError), or an error that `drain_errors` explains
                self._burst = max(1, taken)
                break
            if ancillary != self._ancillary:  # one server says the same each time
                if count:
                    received.append(self._train(start, used, size if count > 1 else 0, whom))
                self._ancillary = ancillary
                self._segment, self._arrived = arrival.parse(ancillary)
                start, count, room = used, 0, 0
            if 0 < length <= size and room and sender == whom and used + length - start <= MAX_OCTETS:
                count += 1
                used += length
                room = room - 1 if length == size else 0
                continue
            if count:
                received.append(self._train(start, used, size if count > 1 else 0, whom))
            start, used, whom, count = used, used + length, sender, 1
            if 0 < self._segment < length:
                received.append(self._train(start, used, self._segment, whom))
                start, count, room = used, 0, 0
            else:
                size, room = length, self._joins
            if used > BURST_OCTETS:
                break
        else:
            self._burst = min(self._most, self._burst * 2)
        if count:
            received.append(self._train(start, used, size if count > 1 else 0, whom))
        return received

    def _train(self, start: int, end: int, segment: int, sender: Sockaddr) -> Received:
        return Received(_ROOM[start:end], segment, sender, self._arrived)

    def drain_errors(self) -> bool:
        """Hand over what the error queue holds; whether one of it was this host's own refusal to send."""
        local = False
        for _ in range(BURST):
            try:
                data, ancillary, _, to = self._socket.recvmsg(_ERROR_QUOTE, _ERROR_ANCILLARY, socket.MSG_ERRQUEUE)
            except OSError:
                break
            error = errqueue.parse(ancillary)
            if error is not None:
                local = local or error.origin == errqueue.ORIGIN_LOCAL
                self._on_error(error, to, data)
        return local

    def watch(self, on_readable: Callable[[], None]) -> None:
        """Call on_readable while there is something to receive, or an error."""
        self._loop.add_reader(self._socket.fileno(), on_readable)

    def unwatch(self) -> None:
        """Read no more for now."""
        self._loop.remove_reader(self._socket.fileno())

    def close(self) -> None:
        """Take the socket off the loop, then close it: its number is reused at once."""
        self.unwatch()
        self._socket.close()

    def _send_all(self, to: Sockaddr, payloads: list[bytes]) -> int:
        if len(payloads) == 1:
            return self._send_one(payloads[0], to)
        return next(filter(None, (self._send_together(some, to) for some in calls(payloads))), 0)

    def _send_together(self, payloads: list[bytes], to: Sockaddr) -> int:
        if self._segments and len(payloads) > 1:
            number = self._send_train(payloads, len(payloads[0]), to)
            if number not in _NO_SEGMENTATION:
                return number
            self._segments = number == errno.EMSGSIZE  # a single one above the path MTU says so in the error queue
        return next(filter(None, (self._send_one(payload, to) for payload in payloads)), 0)

    def _send_one(self, payload: Frame, to: Sockaddr) -> int:
        try:
            self._socket.sendto(payload, to)
        except OSError as error:
            return self._after_error(error, partial(self._socket.sendto, payload, to))
        return 0

    def _send_train(self, parts: list[Frame] | list[bytes], size: int, to: Sockaddr) -> int:
        if size != self._train_size:
            self._train_size = size
            self._train_ancillary = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _SEGMENT_SIZE.pack(size))]
        ancillary = self._train_ancillary
        try:
            self._socket.sendmsg(parts, ancillary, 0, to)
        except OSError as error:
            return self._after_error(error, partial(self._socket.sendmsg, parts, ancillary, 0, to))
        return 0

    def _after_error(self, error: OSError, again: Callable[[], int]) -> int:
        """An error that an earlier packet met is told once, to whatever call comes next (udp(7)): try again."""
        if error.errno == errno.EAGAIN:
            return errno.EAGAIN
        if self.drain_errors() and error.errno == errno.EMSGSIZE:
            return ALREADY_TOLD
        try:
            again()
        except OSError as second:
            return second.errno or errno.EIO
        return 0

    def _set_header(self, header: Header) -> None:
        before = self._header
        if before is None or header.ttl != before.ttl:
            self._socket.setsockopt(*self._ttl_option, header.ttl)
        if before is None or header.tos != before.tos:
            self._socket.setsockopt(*self._tos_option, header.tos)
        if before is None or header.dont_fragment != before.dont_fragment:
            self._socket.setsockopt(*self._df_option, _PMTUDISC_DO if header.dont_fragment else _PMTUDISC_DONT)
        self._header = header

    def _set_options(self, *, four: bool) -> None:
        host = self._socket
        host.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        host.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        if not four:
            host.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        level = socket.IPPROTO_IP if four else socket.IPPROTO_IPV6
        for option in _WANTED_V4 if four else _WANTED_V6:
            host.setsockopt(level, option, 1)
        if self._segments:
            try:
                host.setsockopt(socket.IPPROTO_UDP, arrival.UDP_GRO, 1)
            except OSError as error:  # before Linux 5.0
                if error.errno != errno.ENOPROTOOPT:
                    raise
                self._segments = False


ALREADY_TOLD: Final = -1
"""In place of an errno: the datagram was not sent, and on_error has been told why."""

OnError = Callable[[SocketError, Sockaddr, bytes], None]
