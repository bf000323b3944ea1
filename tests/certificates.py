"""Certificates for tests over TLS, made once."""

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_BEGIN = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
_END = dt.datetime(2120, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Certificates:
    """PEM files: a CA without key identifiers, as old clusters have; and one leaf for both ends.

    new_cert, new_key: another leaf of the same CA. other_ca: one that has signed nothing but
    itself, by other_key.
    """

    ca: Path
    cert: Path
    key: Path
    other_ca: Path
    new_cert: Path
    new_key: Path
    other_key: Path

    def client_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        return context

    def server_context(self, *, ask_client: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        if ask_client:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _certificate(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name("kubernetes"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_BEGIN)
        .not_valid_after(_END)
    )


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    ca_key, key, new_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    ca = _certificate("kubernetes", ca_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("kubernetes")]
    files = ("ca.crt", "tls.crt", "tls.key", "other.crt", "new.crt", "new.key", "other.key")
    made = Certificates(*(folder / name for name in files))
    pem = serialization.Encoding.PEM
    made.ca.write_bytes(ca.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    other_key = ec.generate_private_key(ec.SECP256R1())
    other = _certificate("kubernetes", other_key).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    made.other_ca.write_bytes(other.sign(other_key, hashes.SHA256()).public_bytes(pem))
    for cert, one in ((made.cert, key), (made.new_cert, new_key)):
        leaf = _certificate("kube-apiserver", one).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        cert.write_bytes(leaf.sign(ca_key, hashes.SHA256()).public_bytes(pem))
    for file, one in ((made.key, key), (made.new_key, new_key), (made.other_key, other_key)):
        file.write_bytes(
            one.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
    return made
