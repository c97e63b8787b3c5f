"""Many requests over few connections, against small servers on loopback."""

from lib.probes.transport.kept import over_kept_sockets
from lib.probes.transport.messages import Request
from tests.support.loopback import heard, served

ENDS = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def echo(opened):
    """Answer each request of a connection with its path; after /ends end the connection, and before /lost too."""

    def speak(connection):
        opened.append(connection)
        while data := heard(connection):
            path = data.split()[1]
            if path == b"/lost":
                return
            if path == b"/ends":
                connection.sendall(ENDS)
                return
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))

    return speak


def get(path):
    return Request("GET", path, ("Host: a.example",))


def test_requests_share_connections_and_replies_keep_their_order():
    opened, paths = [], [f"/{number}" for number in range(20)]
    with served(echo(opened)) as address:
        replies = over_kept_sockets(address, 3)([get(path) for path in paths])
    assert [reply.body for reply in replies] == paths and len(opened) == 3


def test_a_connection_that_ends_costs_no_other_request_its_answer():
    opened = []
    with served(echo(opened)) as address:
        replies = over_kept_sockets(address, 1)([get(path) for path in ("/a", "/ends", "/b", "/lost", "/c")])
    assert [reply.answer for reply in replies] == ["200 app", "403 codec", "200 app", "0 closed", "200 app"]
    assert len(opened) == 3


def test_without_requests_nothing_is_opened():
    opened = []
    with served(echo(opened)) as address:
        assert over_kept_sockets(address)([]) == []
    assert opened == []
