"""Which form a list has, by its beginning."""

import pytest

from services.dns_filter.lists.shape import looks_like_zone


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"$TTL 60\n@ SOA a. b. 1 2 3 4 5\n", True),
        (b"; x\n\nads.example CNAME .\n", True),
        (b"ads.example 60 IN CNAME rpz-passthru.\n", True),
        (b"@ 3600 IN SOA a. b. 1 2 3 4 5\n", True),
        (b"ads.example\n", False),
        (b"0.0.0.0 ads.example\n", False),
        (b"||ads.example^\n", False),
        (b"# a CNAME b\nads.example\n", False),
    ],
    ids=str,
)
def test_zone_is_told_from_other_lists(text: bytes, expected: bool) -> None:
    assert looks_like_zone(text) is expected
