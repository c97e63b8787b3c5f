"""A cluster's own CA: what it signs is good for TLS in both directions, and for nothing else."""

import ssl
import stat

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from cryptography.x509.oid import NameOID

from sandbox.node import certificates


@pytest.fixture
def ca(tmp_path):
    return certificates.authority(tmp_path / "pki", "ca", "test-ca")


def context(side, ca, pair):
    made = ssl.SSLContext(side)
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    made.load_verify_locations(cadata=ca.pem.decode())
    made.load_cert_chain(*pair)
    return made


def handshake(trusted, server, client, hostname):
    """Shake hands in memory, both sides showing a certificate; return what each saw of the other."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    serving = context(ssl.PROTOCOL_TLS_SERVER, trusted, server).wrap_bio(to_server, to_client, server_side=True)
    asking = context(ssl.PROTOCOL_TLS_CLIENT, trusted, client)
    asking = asking.wrap_bio(to_client, to_server, server_hostname=hostname)
    for _ in range(3):
        for side in (asking, serving):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return asking.getpeercert(), serving.getpeercert()


def test_server_and_client_shake_hands_by_name_and_by_address(ca):
    server = ca.issue("server", "api", hosts=("localhost", "198.18.0.10"))
    client = ca.issue("client", "someone", "some-group")
    for host in ("localhost", "198.18.0.10"):
        seen, shown = handshake(ca, server, client, host)
        assert dict(pair[0] for pair in seen["subject"]) == {"commonName": "api"}
        assert dict(pair[0] for pair in shown["subject"]) == {
            "commonName": "someone",
            "organizationName": "some-group",
        }


@pytest.mark.parametrize("host", ["example.org", "198.18.0.11"])
def test_a_server_is_not_taken_for_another_host(ca, host):
    server, client = ca.issue("server", "api", hosts=("localhost", "198.18.0.10")), ca.issue("client", "someone")
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(ca, server, client, host)


def test_a_client_certificate_does_not_serve(ca):
    client = ca.issue("client", "localhost")
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(ca, client, client, "localhost")


def test_another_authority_of_the_same_name_is_not_trusted(ca, tmp_path):
    other = certificates.authority(tmp_path / "other", "ca", "test-ca")
    server, stranger = ca.issue("server", "api", hosts=("localhost",)), other.issue("client", "someone")
    with pytest.raises(ssl.SSLError, match="(?i)verify failed"):
        handshake(ca, server, stranger, "localhost")


def test_the_web_pki_verifier_accepts_a_server(ca):
    shown, _ = ca.issue("server", "api", hosts=("kubernetes.default.svc",))
    leaf = x509.load_pem_x509_certificate(shown.read_bytes())
    policy = verification.PolicyBuilder().store(verification.Store([ca.certificate]))
    chain = policy.build_server_verifier(x509.DNSName("kubernetes.default.svc")).verify(leaf, [])
    assert chain == [leaf, ca.certificate]


def test_the_authority_signs_no_further_authorities(ca):
    basic = ca.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical and basic.value.ca and basic.value.path_length == 0
    leaf = x509.load_pem_x509_certificate(ca.issue("leaf", "leaf")[0].read_bytes())
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert leaf.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "test-ca"
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc < certificates.LIFETIME * 1.01


def test_serial_numbers_and_keys_are_never_used_twice(ca):
    made = [x509.load_pem_x509_certificate(ca.issue(f"c{n}", "same")[0].read_bytes()) for n in range(3)]
    assert len({one.serial_number for one in made}) == 3
    assert len({one.public_key().public_numbers() for one in made}) == 3


def test_private_keys_are_readable_by_their_owner_only(ca):
    certificates.key_pair(ca.folder, "tokens")
    ca.issue("server", "api", hosts=("localhost",))
    keys = sorted(ca.folder.glob("*.key"))
    assert [key.name for key in keys] == ["ca.key", "server.key", "tokens.key"]
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert not [path.name for path in ca.folder.iterdir() if path not in keys and b"PRIVATE" in path.read_bytes()]


def test_the_token_keys_are_a_pair(tmp_path):
    private, public = certificates.key_pair(tmp_path, "tokens")
    signed = serialization.load_pem_private_key(private.read_bytes(), None).sign(b"x", ec.ECDSA(hashes.SHA256()))
    serialization.load_pem_public_key(public.read_bytes()).verify(signed, b"x", ec.ECDSA(hashes.SHA256()))


def test_kubeconfig_names_server_ca_and_client(tmp_path):
    ca, shown, key = tmp_path / "ca.crt", tmp_path / "admin.crt", tmp_path / "admin.key"
    path = certificates.kubeconfig(tmp_path / "kubeconfig", "https://198.18.0.10:6443", ca, shown, key)
    found = yaml.safe_load(path.read_text())
    assert (found["apiVersion"], found["kind"], found["current-context"]) == ("v1", "Config", "c")
    assert found["contexts"] == [{"name": "c", "context": {"cluster": "c", "user": "u"}}]
    cluster = {"server": "https://198.18.0.10:6443", "certificate-authority": str(ca)}
    assert found["clusters"] == [{"name": "c", "cluster": cluster}]
    user = {"client-certificate": str(shown), "client-key": str(key)}
    assert found["users"] == [{"name": "u", "user": user}]
