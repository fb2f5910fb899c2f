"""An authority of the tests' own, and certificates by it: right, for another name, and expired."""

import datetime as dt
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAME = "dns.test"
_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Chain:
    """Files in PEM form of one server."""

    certificate: Path
    key: Path


class Authority:
    """Issues certificates into a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("the tests' authority")
        self._now = dt.datetime.now(dt.UTC)
        certificate = (
            self._builder(self._name, self._key, 0)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path = directory / "ca.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str = NAME, *, address: str = "", expired: bool = False) -> Chain:
        """A certificate for a name, and for an address if there is one."""
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(name)]
        if address:
            names.append(x509.IPAddress(ip_address(address)))
        certificate = (
            self._builder(_name(name), key, 10 if expired else 0)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        stem = f"{name}{'-expired' if expired else ''}{'-address' if address else ''}"
        chain = Chain(self.directory / f"{stem}.pem", self.directory / f"{stem}.key")
        chain.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        chain.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return chain

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, ago: int) -> x509.CertificateBuilder:
        begins = self._now - (ago + 1) * _DAY
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + 3 * _DAY)
        )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
