"""What is said of a certificate that is not believed."""

import ssl

import pytest

from services.dns_filter.upstreams.certificates import authorities, certificate_error
from tests.services.dns_filter.upstreams.certificates import Authority


@pytest.mark.parametrize(
    ("why", "remedy"),
    [
        ("unable to get local issuer certificate", "dns.tls_ca"),
        ("self-signed certificate in certificate chain", "dns.tls_ca"),
        ("certificate has expired", "clock"),
        ("Certificate is no longer valid", "clock"),
        ("Hostname mismatch, certificate is not valid for 'a.test'.", None),
    ],
    ids=["unknown authority", "its own authority", "expired", "expired, as aioquic says it", "another name"],
)
def test_remedy_is_named_where_there_is_one(why: str, remedy: str | None) -> None:
    text = certificate_error(why)
    assert text.startswith(f"its certificate is not valid: {why}")
    assert remedy is None or remedy in text
    assert ("; if" in text) is (remedy is not None)


def test_names_and_chains_are_always_checked(authority: Authority) -> None:
    for context in (authorities(""), authorities(str(authority.path))):
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_only_the_named_authorities_are_believed(authority: Authority) -> None:
    assert len(authorities(str(authority.path)).get_ca_certs()) == 1
