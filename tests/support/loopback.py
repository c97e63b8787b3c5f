"""Small servers on loopback: each new connection is a thread that runs one function over it."""

import contextlib
import socket
import struct
import threading

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived
from h2.exceptions import ProtocolError


@contextlib.contextmanager
def served(speak, host="127.0.0.1"):
    """Serve every connection to `host`, of this machine, by `speak(connection)`; give the address, host:port."""
    listener = socket.create_server((host, 0))

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    def handle(connection):
        with connection, contextlib.suppress(OSError):
            speak(connection)
            # Bytes that nobody read would turn the end into a reset
            connection.settimeout(5)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                continue

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"{host}:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def heard(connection):
    """Return a request's bytes up to the empty line, or what came before the connection ended."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            break
        data += more
    return data


def over_http2(answer):
    """A server's part in HTTP/2: `answer(connection, stream, headers)` says the rest."""

    def speak(connection):
        spoken = H2Connection(H2Configuration(client_side=False, validate_inbound_headers=False, header_encoding=None))
        spoken.initiate_connection()
        connection.sendall(spoken.data_to_send())
        with contextlib.suppress(ProtocolError):  # what still comes after the server's own end
            while data := connection.recv(65536):
                for event in spoken.receive_data(data):
                    if isinstance(event, RequestReceived):
                        answer(spoken, event.stream_id, event.headers)
                connection.sendall(spoken.data_to_send())

    return speak


def reset(connection):
    """End the connection with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
