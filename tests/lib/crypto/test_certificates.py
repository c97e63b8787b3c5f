"""A real TLS handshake accepts what an authority signs; a certificate that does not fit is refused with its reason."""

import datetime
import socket
import ssl

import pytest

from lib.crypto import certificates
from tests.support.loopback import served

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)
AUTHORITY, AUTHORITY_KEY = certificates.generate_authority("one")
OTHER, OTHER_KEY = certificates.generate_authority("other")
NAMES = ["kc.example.org", "198.18.0.1"]
LEAF, KEY = certificates.issue(AUTHORITY, AUTHORITY_KEY, NAMES)


def handshake(tmp_path, host, authority=AUTHORITY, leaf=LEAF, key=KEY):
    """Connect by OpenSSL to a server with the certificate, as `host`; give the TLS version."""
    (tmp_path / "pair.pem").write_text(leaf + key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "pair.pem")
    client = ssl.create_default_context(cadata=authority)

    def speak(connection):
        with server.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1)

    with served(speak) as address:
        place = address.rpartition(":")
        with (
            socket.create_connection((place[0], int(place[2])), 5) as plain,
            client.wrap_socket(plain, server_hostname=host) as secure,
        ):
            return secure.version()


@pytest.mark.parametrize("host", NAMES)
def test_what_an_authority_signs_is_accepted_by_openssl_for_its_names(host, tmp_path):
    assert handshake(tmp_path, host) == "TLSv1.3"


@pytest.mark.parametrize(
    ("host", "authority", "words"),
    [("other.example.org", AUTHORITY, "mismatch"), ("198.18.0.2", AUTHORITY, "mismatch"), (NAMES[0], OTHER, "unable")],
)
def test_another_name_or_another_authority_is_refused_by_openssl(host, authority, words, tmp_path):
    with pytest.raises(ssl.SSLCertVerificationError, match=words):
        handshake(tmp_path, host, authority)


@pytest.mark.parametrize(
    ("chain", "key", "names", "options", "words"),
    [
        (LEAF, KEY, NAMES, {"authority": AUTHORITY}, ""),
        (LEAF, "", NAMES, {}, ""),
        (LEAF, KEY, [*NAMES, "x.example.org"], {}, "it is not for x.example.org"),
        (LEAF, KEY, NAMES, {"authority": OTHER}, "not signed under the authority"),
        (LEAF, OTHER_KEY, NAMES, {}, "the key beside it is another one's"),
        (LEAF, KEY, NAMES, {"now": NOW - DAY}, "it is good from"),
        (LEAF, KEY, NAMES, {"now": NOW + 91 * DAY}, "it is good from"),
        (LEAF, KEY, NAMES, {"now": NOW + 61 * DAY, "days": 30}, "it is good from"),
        (LEAF, KEY, NAMES, {"now": NOW + 59 * DAY, "days": 30}, ""),
        ("no certificate", KEY, NAMES, {}, "it cannot be read"),
    ],
)
def test_what_does_not_do_is_told(chain, key, names, options, words):
    told = certificates.problem(chain, key, names, **options)
    assert told == words if not words else words in told


def test_an_authority_is_made_anew_before_its_end():
    days = certificates.AUTHORITY_DAYS - certificates.RENEW_DAYS
    assert certificates.authority_problem(AUTHORITY, AUTHORITY_KEY, NOW + (days - 1) * DAY) == ""
    assert "good from" in certificates.authority_problem(AUTHORITY, AUTHORITY_KEY, NOW + (days + 1) * DAY)


def test_a_leaf_cannot_sign(tmp_path):
    forged, key = certificates.issue(LEAF, KEY, ["evil.example.org"])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, "evil.example.org", AUTHORITY, forged + LEAF, key)
    assert "not signed under" in certificates.problem(forged + LEAF, key, ["evil.example.org"], AUTHORITY)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("*.keycloak.svc.cluster.local", "late.keycloak.svc.cluster.local", True),
        ("*.keycloak.svc.cluster.local", "a.b.keycloak.svc.cluster.local", False),
        ("*.keycloak.svc.cluster.local", "keycloak.svc.cluster.local", False),
        ("*.example", "a.example", False),
        ("Kc.example.org", "kC.example.org", True),
    ],
)
def test_names_fit_as_tls_libraries_let_them(pattern, name, fits):
    assert certificates.covers(certificates.issue(AUTHORITY, AUTHORITY_KEY, [pattern])[0], name) is fits


def test_what_is_told_has_no_key():
    told = certificates.summary(LEAF)
    assert told["names"] == "kc.example.org, 198.18.0.1" and told["issuer"] == "CN=one"
    assert set(told) == {"names", "issuer", "valid_until", "sha256"}


def test_a_load_balancers_name_of_more_than_64_characters(tmp_path):
    host = "a" * 60 + "." + "b" * 30 + ".elb.us-east-1.amazonaws.com"
    leaf, key = certificates.issue(AUTHORITY, AUTHORITY_KEY, [host])
    assert handshake(tmp_path, host, leaf=leaf, key=key)
