"""Putting an answer together anew without what must go, by dnspython. No I/O, no clock."""

import socket
from typing import Final

import dns.flags
import dns.message
import dns.rdata
import dns.rdatatype
import dns.rrset
from dns.rdtypes import svcbbase

from services.dns_filter.message import (
    IN,
    MAX_MESSAGE,
    MalformedMessageError,
    is_meta,
    question_end,
    read_header,
    walk,
)
from services.dns_filter.reading import is_h3

_STRAY: Final = 65280  # a type for private use (RFC 6895 section 3.1): what is removed whole
_HINTS: Final = (svcbbase.ParamKey.IPV4HINT, svcbbase.ParamKey.IPV6HINT)


def rewrite(octets: bytes, removed: frozenset[bytes], *, remove_h3: bool, remove_ech: bool = False) -> bytes:
    """The message without these addresses (packed), h3, ech, OPT, and records that do not parse.

    Raises MalformedMessageError where nothing can be made of it.
    """
    try:
        message = dns.message.from_wire(_without_meta(octets), continue_on_error=True, ignore_trailing=True)
        for section in (message.answer, message.authority, message.additional):
            cleaned = (_clean(rrset, removed, remove_h3=remove_h3, remove_ech=remove_ech) for rrset in section)
            section[:] = [rrset for rrset in cleaned if rrset is not None and rrset.rdtype != _STRAY]
        message.use_edns(edns=False)
        # What has been changed is no longer what was validated.
        message.flags &= ~dns.flags.AD
        return message.to_wire(max_size=MAX_MESSAGE)
    except Exception as error:  # noqa: BLE001  dnspython raises ValueError, struct.error and others besides its own
        raise MalformedMessageError(f"cannot be rebuilt: {error}") from None


def _without_meta(octets: bytes) -> bytes:
    """The message with its OPT and TSIG records disguised: dnspython gives up a message in which one is misplaced.

    They are not cut out, since pointers count from the beginning of the message.
    """
    try:
        records = walk(octets, question_end(octets), read_header(octets))
    except MalformedMessageError:
        return octets
    changed = bytearray(octets)
    for record in records:
        if is_meta(record.rtype):
            changed[record.ttl_at - 4 : record.ttl_at] = _STRAY.to_bytes(2, "big") + IN.to_bytes(2, "big")
    return bytes(changed)


def _clean(
    rrset: dns.rrset.RRset, removed: frozenset[bytes], *, remove_h3: bool, remove_ech: bool
) -> dns.rrset.RRset | None:
    """A set of records without what must go; None if nothing is left."""
    kept: list[dns.rdata.Rdata] = []
    if rrset.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA):
        kept += [rdata for rdata in rrset if _packed(rdata.address) not in removed]
    elif rrset.rdtype in (dns.rdatatype.SVCB, dns.rdatatype.HTTPS):
        for rdata in rrset:
            cleaned = _clean_binding(rdata, removed, remove_h3=remove_h3, remove_ech=remove_ech)
            if cleaned is not None:
                kept.append(cleaned)
    else:
        return rrset
    return dns.rrset.from_rdata_list(rrset.name, rrset.ttl, kept) if kept else None


def _clean_binding(
    rdata: svcbbase.SVCBBase, removed: frozenset[bytes], *, remove_h3: bool, remove_ech: bool
) -> svcbbase.SVCBBase | None:
    """A service binding without hints and protocols that must go; None where it would be of no use without them."""
    params = dict(rdata.params)
    for key in _HINTS:
        if key in params:
            kept = tuple(address for address in params[key].addresses if _packed(address) not in removed)
            if kept != params[key].addresses:
                _replace(params, key, type(params[key])(kept) if kept else None)
    alpn = params.get(svcbbase.ParamKey.ALPN)
    if remove_h3 and alpn is not None:
        ids = tuple(protocol for protocol in alpn.ids if not is_h3(protocol))
        if ids != alpn.ids:
            _replace(params, svcbbase.ParamKey.ALPN, type(alpn)(ids) if ids else None)
    if remove_ech:
        # Without it the client sends the server's name in the clear, where it can be checked (RFC 9849).
        params.pop(svcbbase.ParamKey.ECH, None)
    if params == rdata.params:
        return rdata
    gone = rdata.params.keys() - params.keys()
    mandatory = params.get(svcbbase.ParamKey.MANDATORY)
    if mandatory is not None and gone & set(mandatory.keys):
        return None
    if svcbbase.ParamKey.ALPN in gone and svcbbase.ParamKey.NO_DEFAULT_ALPN in params:
        return None  # h3 was the only protocol it offered (RFC 9460 section 7.1.2)
    cleaned = rdata.replace(params=params)
    assert isinstance(cleaned, svcbbase.SVCBBase)
    return cleaned


def _replace(params: dict[int, svcbbase.Param | None], key: int, value: svcbbase.Param | None) -> None:
    if value is None:
        del params[key]
    else:
        params[key] = value


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
