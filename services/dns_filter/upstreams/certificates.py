"""Which certificates of upstreams are believed, and what is said of one that is not."""

import ssl
from typing import Final

_UNKNOWN_AUTHORITY: Final = ("issuer", "self-signed", "self signed")
"""What OpenSSL's texts say of a chain that ends in no authority it was given (X509_verify_cert_error_string(3))."""

_NOT_NOW: Final = ("expired", "no longer valid", "not yet valid", "not valid yet")
"""What OpenSSL and aioquic say of dates."""


def authorities(tls_ca: str) -> ssl.SSLContext:
    """A context for TLS that checks certificate and name against the authorities in a file, "" for the system's.

    Raises OSError where the file cannot be read.
    """
    return ssl.create_default_context(cafile=tls_ca or None)


def certificate_error(why: str) -> str:
    """Why an upstream was not believed, with the remedy where there is one. `why` is OpenSSL's text, or aioquic's."""
    text = f"its certificate is not valid: {why}"
    if any(word in why for word in _UNKNOWN_AUTHORITY):
        return f"{text}; if it is the right server, name the file of its authority's certificate: dns.tls_ca"
    if any(word in why for word in _NOT_NOW):
        return f"{text}; if its dates are right, this host's clock is wrong"
    return text
