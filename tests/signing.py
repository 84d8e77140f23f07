"""Keys and certificates for signing films, made on the spot: root -> intermediate -> signer, as C2PA asks of them."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Private = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
NOW = datetime.datetime.now(datetime.UTC)


@dataclass(frozen=True)
class Trial:
    """One signer, as PEM."""

    key: str
    chain: str
    """The signer's certificate, then the intermediate one."""
    root: str

    def pair(self) -> tuple[bytes, bytes]:
        """Key and chain, as `credentials.signer` takes them."""
        return self.key.encode(), self.chain.encode()


def named(name: str) -> x509.Name:
    parts = [(NameOID.COUNTRY_NAME, "SE"), (NameOID.ORGANIZATION_NAME, "Trial Studio"), (NameOID.COMMON_NAME, name)]
    return x509.Name([x509.NameAttribute(*part) for part in parts])


def certificate(
    name: str,
    key: Private,
    by: tuple[str, Private],
    *,
    ca: bool = False,
    days: float = 30,
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.EMAIL_PROTECTION,
) -> x509.Certificate:
    issuer, issuer_key = by
    made = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - datetime.timedelta(days=60))
        .not_valid_after(NOW + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False), critical=True)
    )
    if not ca and usage is not None:
        made = made.add_extension(x509.ExtendedKeyUsage([usage]), critical=usage == ExtendedKeyUsageOID.TIME_STAMPING)
    return made.sign(issuer_key, None if isinstance(issuer_key, ed25519.Ed25519PrivateKey) else hashes.SHA256())


def pem(made: x509.Certificate) -> str:
    return made.public_bytes(Encoding.PEM).decode()


def key_pem(key: Private) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def locked(key: str) -> str:
    """The key with a password."""
    private = load_pem_private_key(key.encode(), None)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")).decode()


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


KINDS: Mapping[str, Callable[[], Private]] = {
    "p256": p256,
    "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
}


@cache
def trial(
    name: str = "Trial Signer",
    *,
    days: float = 30,
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.EMAIL_PROTECTION,
    kind: str = "p256",
) -> Trial:
    """A signer of that name, below a root of their own."""
    root_key, middle_key = p256(), p256()
    key = KINDS[kind]()
    root = certificate(f"{name} Root", root_key, (f"{name} Root", root_key), ca=True)
    middle = certificate(f"{name} Intermediate", middle_key, (f"{name} Root", root_key), ca=True)
    own = certificate(name, key, (f"{name} Intermediate", middle_key), days=days, usage=usage)
    return Trial(key=key_pem(key), chain=pem(own) + pem(middle), root=pem(root))
