"""The CA of one sandbox cluster, and the certificates that it signs (ECDSA P-256, RFC 5280)."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from lib.crypto import certificates
from lib.files import PRIVATE, write_atomic

LIFETIME = datetime.timedelta(days=30)  # a sandbox lives for hours


@dataclass(frozen=True)
class Authority:
    """A CA: its certificate and key, and the folder that its files are written to."""

    folder: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        """The CA's certificate, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, file: str, name: str, organization: str = "", hosts: tuple[str, ...] = ()) -> tuple[Path, Path]:
        """Sign a certificate for `name`, also for a server if `hosts` are given; return its file and its key's."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])
        names = x509.SubjectAlternativeName([certificates.general_name(host) for host in hosts])
        made = certificates.certificate(
            certificates.common_name(name, organization),
            key,
            *_lifetime(),
            (x509.ExtendedKeyUsage(usages), False),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False),
            *([(names, False)] if hosts else []),
            issuer=self.certificate,
            issuer_key=self.key,
        )
        return _write(self.folder, file, made, key)


def authority(folder: Path, file: str, name: str) -> Authority:
    """Make a CA and write `file`.crt and `file`.key into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    usage = certificates.key_usage(digital_signature=True, key_cert_sign=True, crl_sign=True)
    extensions = certificates.authority_extensions(key, usage)
    certificate = certificates.certificate(certificates.common_name(name), key, *_lifetime(), *extensions)
    _write(folder, file, certificate, key)
    return Authority(folder, certificate, key)


def key_pair(folder: Path, file: str) -> tuple[Path, Path]:
    """Make a key pair for signing service account tokens; return the private and the public key's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_atomic(folder / f"{file}.key", certificates.key_pem(key), PRIVATE)
    write_atomic(folder / f"{file}.pub", public)
    return folder / f"{file}.key", folder / f"{file}.pub"


def kubeconfig(path: Path, endpoint: str, ca: Path, certificate: Path, key: Path) -> Path:
    """Write a kubeconfig that presents a client certificate; return its path."""
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        f"clusters: [{{name: c, cluster: {{server: '{endpoint}', certificate-authority: {ca}}}}}]\n"
        f"users: [{{name: u, user: {{client-certificate: {certificate}, client-key: {key}}}}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    return path


def _lifetime() -> tuple[datetime.datetime, datetime.datetime]:
    now = datetime.datetime.now(datetime.UTC)
    return now - certificates.GRACE, now + LIFETIME


def _write(
    folder: Path, file: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> tuple[Path, Path]:
    write_atomic(folder / f"{file}.key", certificates.key_pem(key), PRIVATE)
    write_atomic(folder / f"{file}.crt", certificates.pem(certificate))
    return folder / f"{file}.crt", folder / f"{file}.key"
