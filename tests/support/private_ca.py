"""A private certificate authority, and a server certificate that it signed."""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class PrivateCA:
    """`pem` is the CA that clients trust, `server` the TLS context for a server at `host`, `client`
    the data of a kubernetes.io/tls Secret with a certificate that the CA signed."""

    pem: str
    server: ssl.SSLContext
    client: dict[str, str]

    @classmethod
    def make(cls, folder: Path, *, host: str, strict: bool = True) -> PrivateCA:
        """Create the CA; without `strict` as older tools do: no keyUsage, no key identifiers."""
        key, name = ec.generate_private_key(ec.SECP256R1()), _name("a private CA")
        ca = _builder(name, name, key)
        ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        if strict:
            identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
            ca = ca.add_extension(_may_sign(), critical=True)
            ca = ca.add_extension(identifier, critical=False)
        signed = ca.sign(key, hashes.SHA256())
        own = ec.generate_private_key(ec.SECP256R1())
        server = _builder(_name(host), name, own).add_extension(
            x509.SubjectAlternativeName([_alternative(host)]), critical=False
        )
        if strict:
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
            server = server.add_extension(issuer, critical=False)
        file = folder / f"server-{strict}.pem"
        file.write_bytes(_private(own) + _pem(server.sign(key, hashes.SHA256())))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        clients = ec.generate_private_key(ec.SECP256R1())
        client = _builder(_name("an operator"), name, clients).sign(key, hashes.SHA256())
        pair = {"tls.crt": _pem(client).decode(), "tls.key": _private(clients).decode()}
        return cls(_pem(signed).decode(), context, pair)

    def require_client_certificates(self) -> None:
        """Make the server accept only clients whose certificate the CA signed."""
        self.server.verify_mode = ssl.CERT_REQUIRED
        self.server.load_verify_locations(cadata=self.pem)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        subject_name=subject,
        issuer_name=issuer,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now - DAY,
        not_valid_after=now + DAY,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _may_sign() -> x509.KeyUsage:
    no = dict.fromkeys(
        (
            *("digital_signature", "content_commitment", "key_encipherment", "encipher_only"),
            *("data_encipherment", "key_agreement", "decipher_only"),
        ),
        False,
    )
    return x509.KeyUsage(key_cert_sign=True, crl_sign=True, **no)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
