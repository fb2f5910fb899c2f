"""The TCP header and its options, against literal octets and scapy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import TCP

from netstack.packet import tcp
from netstack.packet.reason import MalformedPacketError, Reason

# The SYN of a Linux 6 host, as tcpdump shows it:
# Flags [S], seq 305419896, win 64240, options [mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7]
SYN = bytes.fromhex(
    "c000 0050"  # 49152 > 80
    "12345678 00000000"  # seq, ack
    "a0 02 faf0"  # data offset 10 words, SYN, window 64240
    "0000 0000"  # checksum (filled in by the kernel), urgent pointer
    "0204 05b4"  # MSS 1460
    "0402"  # SACK permitted
    "080a 00000001 00000000"  # timestamps
    "01 0303 07"  # no-operation, window scale 7
)
SYN_OPTIONS = tcp.Options(mss=1460, window_scale=7, sack_permitted=True, timestamps=(1, 0))


def test_each_field_is_read() -> None:
    assert tcp.parse(SYN, 0, 40) == tcp.Header(
        source_port=49152,
        destination_port=80,
        seq=0x12345678,
        ack=0,
        data_offset=40,
        flags=tcp.SYN,
        window=64240,
        options=SYN_OPTIONS,
    )


def test_a_header_without_options_has_none() -> None:
    octets = SYN[:12] + b"\x50\x10" + SYN[14:20] + b"data"
    header = tcp.parse(b"\xff" + octets, 1, 25)
    assert (header.data_offset, header.flags, header.options) == (20, tcp.ACK, tcp.NO_OPTIONS)


@pytest.mark.parametrize(
    ("octets", "end"),
    [(SYN, 19), (SYN, 39), (SYN, 41), (SYN[:12] + b"\x40" + SYN[13:], 40)],
    ids=[
        "a header cut off",
        "options cut off",
        "a segment that is said to be longer than what there is",
        "a data offset below five words",
    ],
)
def test_what_is_no_header_is_refused(octets: bytes, end: int) -> None:
    with pytest.raises(MalformedPacketError) as caught:
        tcp.parse(octets, 0, end)
    assert caught.value.reason is Reason.MALFORMED_TCP


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("", tcp.Options()),
        ("0204 05b4", tcp.Options(mss=1460)),
        ("01 01 01 01", tcp.Options()),
        ("00 020405b4", tcp.Options()),
        ("0303 0e", tcp.Options(window_scale=14)),
        ("0303 ff", tcp.Options(window_scale=14)),
        ("0101 050a 00000001 00000002", tcp.Options(sack=((1, 2),))),
        ("0512 00000001 00000002 ffffffff 00000003", tcp.Options(sack=((1, 2), (0xFFFFFFFF, 3)))),
        ("fd04 beef 0402", tcp.Options(sack_permitted=True)),
        ("0402 0204 05", tcp.Options(sack_permitted=True)),
        ("0402 02", tcp.Options(sack_permitted=True)),
        ("0402 0200 0303 07", tcp.Options(sack_permitted=True)),
        ("0203 05 0402", tcp.Options(sack_permitted=True)),
        ("050b 00000001 00000002 00 0402", tcp.Options(sack_permitted=True)),
    ],
    ids=[
        "no options",
        "maximum segment size (RFC 9293 section 3.2)",
        "no-operations",
        "nothing is read after the end of the list",
        "a window scale of 14",
        "one beyond is taken for 14 (RFC 7323 section 2.3)",
        "one SACK block (RFC 2018 section 3)",
        "two of them, one around the end of the sequence space",
        "an unknown option is passed over",
        "an option cut off ends the list",
        "so does one without a length",
        "so does a length of 0, which would never end",
        "a known option of a wrong length is passed over",
        "so are SACK blocks that are no whole number",
    ],
)
def test_options(field: str, options: tcp.Options) -> None:
    assert tcp.parse_options(bytes.fromhex(field)) == options


def test_the_options_of_a_linux_syn_are_written_as_linux_orders_them_but_for_the_padding() -> None:
    assert tcp.emit_options(SYN_OPTIONS) == bytes.fromhex("0204 05b4 0402 080a 00000001 00000000 0303 07 01")


U32 = st.integers(0, 0xFFFFFFFF)
OPTIONS = st.builds(
    tcp.Options,
    mss=st.none() | st.integers(0, 0xFFFF),
    window_scale=st.none() | st.integers(0, 14),
    sack_permitted=st.booleans(),
    timestamps=st.none() | st.tuples(U32, U32),
    sack=st.lists(st.tuples(U32, U32), max_size=2).map(tuple),
)


@given(OPTIONS)
def test_options_written_are_read_again_by_us_and_by_scapy(options: tcp.Options) -> None:
    field = tcp.emit_options(options)
    assert len(field) % 4 == 0
    assert tcp.parse_options(field) == options
    head = SYN[:12] + bytes([(20 + len(field)) // 4 << 4]) + SYN[13:20]
    theirs = dict(TCP(head + field).options)
    assert theirs.get("MSS") == options.mss
    assert theirs.get("WScale") == options.window_scale
    assert ("SAckOK" in theirs) is options.sack_permitted
    assert theirs.get("Timestamp") == options.timestamps
    assert tuple(theirs.get("SAck", ())) == tuple(edge for block in options.sack for edge in block)


@given(st.binary(max_size=40))
def test_any_options_field_is_read(field: bytes) -> None:
    options = tcp.parse_options(field)
    assert options.window_scale is None or 0 <= options.window_scale <= 14


@given(st.binary(max_size=80), st.integers(0, 8), st.integers(0, 88))
def test_any_octets_are_a_header_or_malformed(octets: bytes, start: int, end: int) -> None:
    try:
        header = tcp.parse(octets, start, end)
    except MalformedPacketError:
        return
    assert 20 <= header.data_offset <= end - start


def test_timestamps_alone_are_written_as_appendix_a_of_rfc_7323_has_them() -> None:
    assert tcp.emit_timestamps(1, 2) == bytes.fromhex("0101 080a 00000001 00000002")
    assert int.from_bytes(tcp.emit_timestamps(1, 2)[:4], "big") == tcp.TIMESTAMPS_HEAD


@given(st.lists(st.tuples(U32, U32), min_size=1, max_size=4))
def test_blocks_of_sack_are_read_again(blocks: list[tuple[int, int]]) -> None:
    field = tcp.emit_sack(blocks)
    assert len(field) % 4 == 0
    assert tcp.parse_options(field).sack == tuple(blocks)
