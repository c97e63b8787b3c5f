"""X.509 certificates (RFC 5280): make a CA, sign certificates, and say why a certificate does not serve."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
AUTHORITY_DAYS, LEAF_DAYS = 825, 90  # how long certificates are valid
RENEW_DAYS = 30  # a certificate with fewer days left is replaced
GRACE = datetime.timedelta(minutes=5)  # for clocks that differ


def certificate(
    subject: x509.Name,
    key: PrivateKey,
    since: datetime.datetime,
    until: datetime.datetime,
    *extensions: tuple[x509.ExtensionType, bool],
    issuer: x509.Certificate | None = None,
    issuer_key: PrivateKey | None = None,
    serial: int | None = None,
) -> x509.Certificate:
    """Return a certificate for the public half of `key`; the project makes all its certificates here.

    Args:
        subject: The name of the key's owner.
        key: The owner's private key.
        since: The first moment that the certificate is valid.
        until: The last one.
        extensions: Each an extension, and whether it is critical.
        issuer: The CA's certificate; without one the certificate is self-signed.
        issuer_key: The CA's private key.
        serial: The serial number, random by default.
    """
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject if issuer else subject)
    builder = builder.public_key(key.public_key()).serial_number(serial or x509.random_serial_number())
    builder = builder.not_valid_before(since).not_valid_after(until)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(issuer_key or key, hashes.SHA256())


def generate_authority(name: str, now: datetime.datetime | None = None) -> tuple[str, str]:
    """Return a new CA's certificate and private key (ECDSA P-256), as PEM. The CA may sign no other CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    usage = key_usage(key_cert_sign=True, crl_sign=True)
    made = certificate(common_name(name), key, *_lifetime(AUTHORITY_DAYS, now), *authority_extensions(key, usage))
    return pem(made), key_pem(key)


def issue(
    authority: str, authority_key: str, names: list[str], now: datetime.datetime | None = None
) -> tuple[str, str]:
    """Return a server's certificate for these host names and IP addresses, and its new private key, as PEM.

    The names are subject alternative names: clients check no other field (RFC 9525).
    """
    issuer = x509.load_pem_x509_certificate(authority.encode())
    key = ec.generate_private_key(ec.SECP256R1())
    made = certificate(
        # A common name has at most 64 characters, and a load balancer's name has more: nobody reads it
        common_name(names[0][:64]),
        key,
        *_lifetime(LEAF_DAYS, now),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (key_usage(digital_signature=True), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([general_name(name) for name in names]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), False),  # type: ignore[arg-type]  # EC
        issuer=issuer,
        issuer_key=load_key(authority_key),
    )
    return pem(made), key_pem(key)


def problem(
    chain: str, key: str, names: list[str], authority: str = "", now: datetime.datetime | None = None, days: int = 0
) -> str:
    """Return why a certificate does not serve for these names, or "" if it does.

    Args:
        chain: The certificate and its intermediate CAs, as PEM.
        key: The private key that must belong to the certificate; "" skips that test.
        names: The host names and IP addresses that it must be for.
        authority: The CA under which it must be signed, as PEM; "" skips that test.
        now: The present moment.
        days: For how many more days it must be valid.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    try:
        leaf, *between = x509.load_pem_x509_certificates(chain.encode())
        private = load_key(key) if key else None
    except ValueError as error:
        return f"it cannot be read ({error})"
    if private and private.public_key() != leaf.public_key():
        return "the key beside it is another one's"
    if now < leaf.not_valid_before_utc or now > leaf.not_valid_after_utc - datetime.timedelta(days=days):
        return f"it is good from {leaf.not_valid_before_utc:%Y-%m-%d} to {leaf.not_valid_after_utc:%Y-%m-%d} only"
    if missing := [one for one in names if not covers(chain, one)]:
        return f"it is not for {', '.join(missing)}"
    return _not_under(leaf, between, authority, now) if authority else ""


def covers(chain: str, name: str) -> bool:
    """Return whether a chain's first certificate is for a host name or an IP address (RFC 9525, section 6.3)."""
    known = _alternatives(x509.load_pem_x509_certificates(chain.encode())[0])
    if known is None:
        return False
    wanted = general_name(name)
    if isinstance(wanted, x509.IPAddress):
        return wanted.value in known.get_values_for_type(x509.IPAddress)
    return any(_fits(one.lower(), name.lower()) for one in known.get_values_for_type(x509.DNSName))


def authority_problem(certificate: str, key: str, now: datetime.datetime | None = None, days: int = RENEW_DAYS) -> str:
    """Return why a CA cannot sign for `days` more, or "" if it can."""
    return problem(certificate, key, [], now=now, days=days)


def still_good(chain: str, now: datetime.datetime | None = None) -> str:
    """Return the first certificate of a PEM text, as PEM, if it has not expired, else ""."""
    now = now or datetime.datetime.now(datetime.UTC)
    found = x509.load_pem_x509_certificates(chain.encode()) if chain else []
    return pem(found[0]) if found and now < found[0].not_valid_after_utc else ""


def summary(certificate: str) -> dict[str, str]:
    """Return names, issuer, valid_until and sha256 (the fingerprint) of a PEM text's first certificate."""
    one = x509.load_pem_x509_certificates(certificate.encode())[0]
    known: Iterable[x509.GeneralName] = _alternatives(one) or []
    return {
        "names": ", ".join(str(name.value) for name in known) or one.subject.rfc4514_string(),
        "issuer": one.issuer.rfc4514_string(),
        "valid_until": f"{one.not_valid_after_utc:%Y-%m-%d}",
        "sha256": one.fingerprint(hashes.SHA256()).hex(),
    }


def _not_under(leaf: x509.Certificate, between: list[x509.Certificate], authority: str, now: datetime.datetime) -> str:
    name = next(iter(_alternatives(leaf) or []), None)
    if name is None:
        return "it has no subject alternative name"
    store = Store(x509.load_pem_x509_certificates(authority.encode()))
    try:
        PolicyBuilder().store(store).time(now).build_server_verifier(name).verify(leaf, between)
    except VerificationError as error:
        return f"it is not signed under the authority that is trusted ({str(error)[:120]})"
    return ""


def _lifetime(days: int, now: datetime.datetime | None) -> tuple[datetime.datetime, datetime.datetime]:
    now = now or datetime.datetime.now(datetime.UTC)
    return now - GRACE, now + datetime.timedelta(days=days)


def common_name(name: str, organization: str = "") -> x509.Name:
    """Return a subject: the organization, if given, and the common name."""
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def authority_extensions(key: PrivateKey, usage: x509.KeyUsage) -> list[tuple[x509.ExtensionType, bool]]:
    """Return the extensions of a CA that may sign no other CA."""
    return [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (usage, True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
    ]


def key_usage(**allowed: bool) -> x509.KeyUsage:
    """Return a KeyUsage extension that allows these uses and no other."""
    uses = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    uses += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    return x509.KeyUsage(**{**dict.fromkeys(uses, False), **allowed})


def _alternatives(one: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def general_name(text: str) -> x509.IPAddress | x509.DNSName:
    """Return a host name or an IP address as a subject alternative name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _fits(pattern: str, name: str) -> bool:
    if not pattern.startswith("*."):
        return pattern == name
    return pattern.count(".") > 1 and name.partition(".")[2] == pattern[2:]  # *.example is refused by TLS libraries


def pem(certificate: x509.Certificate) -> str:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def key_pem(key: PrivateKey) -> str:
    """Return a private key as PEM (PKCS#8, unencrypted); keep it out of every output."""
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*form).decode()


@lru_cache(maxsize=8)  # OpenSSL checks an RSA key whenever it loads one, which takes 0.1 s
def load_key(pem: str) -> PrivateKey:
    """Return the private key of a PEM text."""
    return serialization.load_pem_private_key(pem.encode(), None)  # type: ignore[return-value]  # only EC and RSA keys
