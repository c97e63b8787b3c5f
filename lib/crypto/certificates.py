"""X.509 certificates (RFC 5280): an authority of one's own, what it signs, and whether a certificate still does."""

from __future__ import annotations

import datetime
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

AUTHORITY_DAYS, LEAF_DAYS = 825, 90  # how long they are good for
RENEW_DAYS = 30  # before the end, from when on a certificate is made anew
GRACE = datetime.timedelta(minutes=5)  # for clocks that differ


def generate_authority(name: str, now: datetime.datetime | None = None) -> tuple[str, str]:
    """Return a new authority's certificate and private key (ECDSA P-256), as PEM. It may sign leaves alone."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(name, x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, AUTHORITY_DAYS, now)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return _pem(builder.sign(key, hashes.SHA256())), _key_pem(key)


def issue(
    authority: str, authority_key: str, names: list[str], now: datetime.datetime | None = None
) -> tuple[str, str]:
    """Return a server's certificate for these host names and IP addresses, and its new private key, as PEM.

    The names are subject alternative names, since clients look at nothing else (RFC 9525).
    """
    issuer = x509.load_pem_x509_certificate(authority.encode())
    signer = serialization.load_pem_private_key(authority_key.encode(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    # A common name holds 64 characters and a load balancer's name has more: it is a label here, nothing is read from it
    builder = _builder(names[0][:64], issuer.subject, key, LEAF_DAYS, now)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(digital_signature=True), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([_name(one) for one in names]), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False
    )
    return _pem(builder.sign(signer, hashes.SHA256())), _key_pem(key)


def problem(
    chain: str, key: str, names: list[str], authority: str = "", now: datetime.datetime | None = None, days: int = 0
) -> str:
    """Return why a certificate (PEM, with what stands behind it) does not do for these names, '' where it does.

    It must be the key's, be good for `days` more, and be signed under `authority` where one is given.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    try:
        leaf, *between = x509.load_pem_x509_certificates(chain.encode())
        private = serialization.load_pem_private_key(key.encode(), None) if key else None
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
    """Return whether the first certificate of a chain is for a host name or an IP address (RFC 9525, section 6.3)."""
    known = _alternatives(x509.load_pem_x509_certificates(chain.encode())[0])
    if known is None:
        return False
    wanted = _name(name)
    if isinstance(wanted, x509.IPAddress):
        return wanted.value in known.get_values_for_type(x509.IPAddress)
    return any(_fits(one.lower(), name.lower()) for one in known.get_values_for_type(x509.DNSName))


def authority_problem(certificate: str, key: str, now: datetime.datetime | None = None, days: int = RENEW_DAYS) -> str:
    """Return why an authority cannot sign for `days` more, '' where it can."""
    return problem(certificate, key, [], now=now, days=days)


def still_good(chain: str, now: datetime.datetime | None = None) -> str:
    """Return the first certificate of a PEM text as PEM if its time is not over, else ""."""
    now = now or datetime.datetime.now(datetime.UTC)
    found = x509.load_pem_x509_certificates(chain.encode()) if chain else []
    return _pem(found[0]) if found and now < found[0].not_valid_after_utc else ""


def told(certificate: str) -> dict[str, str]:
    """Return what may be shown of the first certificate: names, issuer, valid_until, sha256 (its fingerprint)."""
    one = x509.load_pem_x509_certificates(certificate.encode())[0]
    known = _alternatives(one) or []
    return {
        "names": ", ".join(str(name.value) for name in known) or one.subject.rfc4514_string(),
        "issuer": one.issuer.rfc4514_string(),
        "valid_until": f"{one.not_valid_after_utc:%Y-%m-%d}",
        "sha256": one.fingerprint(hashes.SHA256()).hex(),
    }


def _not_under(leaf: x509.Certificate, between: list[x509.Certificate], authority: str, now) -> str:
    name = next(iter(_alternatives(leaf) or []), None)
    if name is None:
        return "it has no subject alternative name"
    store = Store(x509.load_pem_x509_certificates(authority.encode()))
    try:
        PolicyBuilder().store(store).time(now).build_server_verifier(name).verify(leaf, between)
    except VerificationError as error:
        return f"it is not signed under the authority that is trusted ({str(error)[:120]})"
    return ""


def _builder(label: str, issuer: x509.Name, key, days: int, now) -> x509.CertificateBuilder:
    now = now or datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - GRACE).not_valid_after(now + datetime.timedelta(days=days))


def _usage(**allowed: bool) -> x509.KeyUsage:
    kinds = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    kinds += ("key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{**dict.fromkeys(kinds, False), **allowed})


def _alternatives(one: x509.Certificate) -> x509.SubjectAlternativeName | None:
    try:
        return one.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _fits(pattern: str, name: str) -> bool:
    if not pattern.startswith("*."):
        return pattern == name
    return pattern.count(".") > 1 and name.partition(".")[2] == pattern[2:]  # *.example is refused by TLS libraries


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key) -> str:
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(*form).decode()
