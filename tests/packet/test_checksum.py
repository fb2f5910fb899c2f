"""RFC 1071's own example, and the rules of ones' complement arithmetic."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netstack.packet.checksum import checksum, fold, octet_sum, pseudo_sum


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        ("0001 f203 f4f5 f6f7", 0xDDF2),  # RFC 1071 section 3
        ("", 0),
        ("0000", 0),
        ("ffff", 0xFFFF),
        ("ffff ffff", 0xFFFF),
        ("01", 0x0100),
        ("ffff 0001", 0x0001),
    ],
    ids=[
        "the example of RFC 1071",
        "nothing sums to zero",
        "zeros sum to zero",
        "a sum of 65535 is not zero",
        "nor is a multiple of it",
        "an odd octet is the high half of a word",
        "the carry comes back in at the low end",
    ],
)
def test_octet_sum(octets: str, expected: int) -> None:
    assert octet_sum(bytes.fromhex(octets)) == expected


def test_the_checksum_is_the_complement_of_the_sum() -> None:
    assert checksum(bytes.fromhex("0001 f203 f4f5 f6f7")) == 0x220D  # RFC 1071 section 3: complement of ddf2


def test_over_a_header_with_its_checksum_the_result_is_zero() -> None:
    # The IPv4 header that Wikipedia's article on the IPv4 header checksum works through.
    assert checksum(bytes.fromhex("4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7")) == 0


@given(st.binary(max_size=1600))
def test_the_sum_is_that_of_a_loop_over_the_words(octets: bytes) -> None:
    padded = octets + b"\0" * (len(octets) & 1)
    total = 0
    for at in range(0, len(padded), 2):
        total += int.from_bytes(padded[at : at + 2], "big")
        total = (total & 0xFFFF) + (total >> 16)
    assert octet_sum(octets) == octet_sum(bytearray(octets)) == octet_sum(memoryview(octets)) == total


@given(st.binary(max_size=64).filter(lambda octets: len(octets) % 2 == 0), st.binary(max_size=65))
def test_sums_of_parts_add_up_where_the_first_is_of_whole_words(first: bytes, second: bytes) -> None:
    assert fold(octet_sum(first) + octet_sum(second)) == octet_sum(first + second)


@pytest.mark.parametrize(
    ("pseudo_header", "source", "destination", "length"),
    [
        ("0a00 0002  0101 0101  00 11  000c", "0a000002", "01010101", 12),
        # RFC 8200 section 8.1: addresses, upper-layer length of 32 bits, three zero octets, next header
        (
            "20010db8000000000000000000000001 20010db8000000000000000000000002 0000000c 000000 11",
            "20010db8000000000000000000000001",
            "20010db8000000000000000000000002",
            12,
        ),
        (
            "20010db8000000000000000000000001 20010db8000000000000000000000002 00012345 000000 11",
            "20010db8000000000000000000000001",
            "20010db8000000000000000000000002",
            0x12345,
        ),
    ],
    ids=["IPv4: RFC 9293 section 3.1", "IPv6: RFC 8200 section 8.1", "a length beyond 16 bits counts whole"],
)
def test_the_pseudo_sum_is_that_of_the_pseudo_header_spelled_out(
    pseudo_header: str, source: str, destination: str, length: int
) -> None:
    assert pseudo_sum(bytes.fromhex(source), bytes.fromhex(destination), 17, length) == octet_sum(
        bytes.fromhex(pseudo_header)
    )
