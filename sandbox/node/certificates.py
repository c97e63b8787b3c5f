"""A certificate authority of a cluster's own, and what it signs (ECDSA P-256, RFC 5280)."""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

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
        """Sign a certificate for `name`, for servers too where `hosts` are given; return its and its key's file."""
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + ([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])
        builder = _builder(_name(name, organization), self.certificate.subject, key)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False
            )
        return _write(self.folder, file, builder.sign(self.key, hashes.SHA256()), key)


def authority(folder: Path, file: str, name: str) -> Authority:
    """Make a CA and write `file`.crt and `file`.key into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(name), _name(name), key)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    usage = dict.fromkeys(("digital_signature", "key_cert_sign", "crl_sign"), True)
    rest = (
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "encipher_only",
        "decipher_only",
    )
    builder = builder.add_extension(x509.KeyUsage(**usage, **dict.fromkeys(rest, False)), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    _write(folder, file, certificate, key)
    return Authority(folder, certificate, key)


def key_pair(folder: Path, file: str) -> tuple[Path, Path]:
    """Make a key pair for signing service account tokens; return the private and the public key's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    private, shown = folder / f"{file}.key", folder / f"{file}.pub"
    _private_file(private, _pem(key))
    shown.write_bytes(public)
    return private, shown


def kubeconfig(path: Path, endpoint: str, ca: Path, certificate: Path, key: Path) -> Path:
    """Write a kubeconfig that presents a client certificate; return its path."""
    path.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
        f"clusters: [{{name: c, cluster: {{server: '{endpoint}', certificate-authority: {ca}}}}}]\n"
        f"users: [{{name: u, user: {{client-certificate: {certificate}, client-key: {key}}}}}]\n"
        "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
    )
    return path


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(now + LIFETIME)


def _name(common: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(
    folder: Path, file: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> tuple[Path, Path]:
    shown, private = folder / f"{file}.crt", folder / f"{file}.key"
    shown.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _private_file(private, _pem(key))
    return shown, private


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _private_file(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
