"""One place says whose certificates are believed: each kind of connection verifies by it, and none goes around it."""

import socket
import ssl

import pytest

from lib.crypto import certificates, trust_store
from lib.errors import KeycloakError
from lib.http_client import over_http
from lib.keycloak import oidc
from lib.kubernetes import port_forward
from lib.probes.transport.messages import Request
from lib.probes.transport.sockets import Connection, TlsAddress, over_sockets
from tests.support.loopback import heard, served

AUTHORITY, AUTHORITY_KEY = certificates.generate_authority("one")
INSIDE = "keycloak.svc.cluster.local"
ASKED = Request("GET", "/", ("Host: x",))


@pytest.fixture
def server(tmp_path):
    """A server of https, for 127.0.0.1 and a name inside; gives its address and the names that clients asked for."""
    leaf, key = certificates.issue(AUTHORITY, AUTHORITY_KEY, ["127.0.0.1", INSIDE])
    (tmp_path / "pair.pem").write_text(leaf + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pair.pem")
    names = []
    context.sni_callback = lambda _, name, __: names.append(name)

    def speak(connection):
        with context.wrap_socket(connection, server_side=True) as secure:
            heard(secure)
            secure.sendall(b'HTTP/1.1 200 OK\r\ncontent-length: 15\r\nconnection: close\r\n\r\n{"keys": [{}]}\n')

    with served(speak) as address:
        yield address, names
    trust_store.add("test", "")


def connected(address):
    host, _, port = address.rpartition(":")
    return lambda: socket.create_connection((host, int(port)), 5)


WAYS = {
    "calls": lambda address: over_http(f"https://{address}/").status,
    "oidc": lambda address: len(oidc.jwks(f"https://{address}/certs")["keys"]),
    "tunnel": lambda address: len(
        oidc.jwks(f"https://{INSIDE}/certs", session=port_forward.session(connected(address)))["keys"]
    ),
    "probes": lambda address: over_sockets(TlsAddress(address, INSIDE))([ASKED])[0].status,
    "a drill's line": lambda address: Connection(TlsAddress(address, INSIDE)).ask(ASKED).status,
}


@pytest.mark.parametrize("way", WAYS)
def test_an_authority_that_was_added_is_believed_and_none_before(way, server):
    address, _ = server
    try:
        before = WAYS[way](address)
    except KeycloakError as error:
        assert (
            "The certificate at https://" in str(error)
            and "is not trusted: " in str(error)
            and "02-istio" in str(error)
        )
        before = 0
    trust_store.add("test", AUTHORITY)
    assert (before, WAYS[way](address) > 0) == (0, True)


def test_another_authority_takes_the_place_of_the_one_before(server):
    trust_store.add("test", AUTHORITY)
    assert over_http(f"https://{server[0]}/").status == 200
    trust_store.add("test", certificates.generate_authority("other")[0])
    assert over_http(f"https://{server[0]}/").reason == "certificate not trusted"


def test_the_name_is_verified_also_in_a_tunnel_and_where_it_is_not_the_address(server):
    trust_store.add("test", AUTHORITY)
    address, names = server
    with pytest.raises(KeycloakError, match="mismatch"):
        oidc.jwks("https://elsewhere.example/certs", session=port_forward.session(connected(address)))
    assert over_sockets(TlsAddress(address, "elsewhere.example"))([ASKED])[0].status == 0
    assert names == ["elsewhere.example"] * 2


def test_a_file_that_is_not_there_adds_nobody(tmp_path):
    trust_store.add_file(tmp_path / "none.pem")
    assert trust_store.context().verify_mode == ssl.CERT_REQUIRED and trust_store.context().check_hostname


def test_a_request_adds_nobodys_authorities(server, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    trust_store.add("test", f"{AUTHORITY}\n")  # not the text of the other tests: their contexts have the system's

    def known():
        return sorted(map(str, trust_store.context().get_ca_certs()))  # OpenSSL sorts them when it looks for one

    added = known()  # more than one if other tests of this process added theirs
    assert oidc.jwks(f"https://{server[0]}/certs")["keys"] == [{}]
    assert known() == added
