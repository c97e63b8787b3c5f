"""The address of a mesh of somebody else, and a transport to it that keeps to a rate and a budget."""

from __future__ import annotations

import argparse
import socket
import ssl
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lib import http_client
from lib.errors import ParamsError
from lib.probes.transport.messages import Transport
from lib.probes.transport.rate_limit import Limiter, rate_limited
from lib.probes.transport.sockets import host_and_port, over_sockets

WORKERS = 8  # connections at once


class MeshAddress(BaseModel):
    """One URL of a mesh, and how many requests it may get."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[
        str, Field(pattern=r"^https?://[^/\s@?#]+(/[^\s?#]*)?$", description="the only host that gets requests")
    ]
    host: str = Field("", description="the Host header; by default the URL's")
    rate: Annotated[float, Field(gt=0, le=1000)] = Field(20, description="requests a second, at most")
    budget: Annotated[int, Field(ge=1, le=100_000)] = Field(500, description="requests in all, at most")
    timeout: Annotated[float, Field(gt=0, le=120)] = Field(10, description="seconds for one request")
    ca: str = Field("", description="a file of certificates to trust instead of the system's")

    @property
    def name(self) -> str:
        """The Host header."""
        return self.host or urlsplit(self.url).netloc

    @property
    def address(self) -> str:
        """The only host and port that get connections."""
        url = urlsplit(self.url)
        name = url.hostname or ""
        host = f"[{name}]" if ":" in name else name
        return f"{host}:{http_client.port(url)}"

    def tls(self, *protocols: str) -> ssl.SSLContext | None:
        """Return a context that verifies certificates and host names, or None for http.

        Args:
            *protocols: What ALPN offers.

        Raises:
            ParamsError: `ca` is not a file of certificates.
        """
        if not self.url.startswith("https:"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
        except OSError as error:  # ssl.SSLError is one
            raise ParamsError(f"expected certificates (PEM) in {self.ca!r}, got: {error}; correct --ca.") from None
        if protocols:
            context.set_alpn_protocols(protocols)
        return context


S = TypeVar("S", bound=MeshAddress)


def read_settings(kind: type[S], given: dict, file: Path | None, page: str) -> S:
    """Return the settings of a params file and of `given`, which wins.

    Args:
        kind: The class of the settings.
        given: The options of the command.
        file: YAML with the options as keys, or None.
        page: The page that explains the options.

    Raises:
        ParamsError: they are not valid.
    """
    try:
        stated = (yaml.safe_load(file.read_text()) if file else None) or {}
        return kind(**{**stated, **given})
    except (OSError, TypeError, yaml.YAMLError) as error:
        raise ParamsError(f"expected a params file of keys and values, got: {error}; correct {file}.") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ParamsError(f"expected valid options, got {faults}; see {page}.") from None


def transport(given: MeshAddress) -> Transport:
    """Return a transport to the address alone, within its rate and budget.

    Raises:
        ParamsError: The host's certificate cannot be trusted. Nothing was sent.
    """
    tls, h2 = given.tls(), given.tls("h2")
    _check_certificate(given, tls)
    limiter = Limiter(given.rate, given.budget)
    return rate_limited(over_sockets(given.address, WORKERS, given.timeout, tls, h2=h2), limiter.wait_turn, WORKERS)


def _check_certificate(given: MeshAddress, tls: ssl.SSLContext | None) -> None:
    """Raise ParamsError if the certificate cannot be trusted. The probes themselves report other faults."""
    if tls is None:
        return
    host, port = host_and_port(given.address)
    try:
        with (
            socket.create_connection((host, port), given.timeout) as plain,
            tls.wrap_socket(plain, server_hostname=host),
        ):
            return
    except ssl.SSLCertVerificationError as error:
        raise ParamsError(
            f"expected a certificate for {given.address} that {given.ca or 'the system'} trusts, "
            f"got: {error.verify_message}; use a name in the certificate, or give its CA's file with --ca."
        ) from None
    except OSError:
        return


def add_options(parser: argparse.ArgumentParser, settings: type[MeshAddress], token_help: str) -> None:
    """Add the options of a command that asks a mesh: one for each setting, and what becomes of the results."""
    for name, field in settings.model_fields.items():
        if name != "tokens":
            flag: dict[str, Any] = {"action": "store_true", "default": None} if field.annotation is bool else {}
            parser.add_argument(f"--{name.replace('_', '-')}", help=field.description, **flag)
    parser.add_argument("--token", dest="tokens", action=NamedOption, metavar="NAME=COMMAND", help=token_help)
    parser.add_argument("--params", type=Path, metavar="FILE", help="YAML with these options as keys")
    parser.add_argument("--dry-run", action="store_true", help="print the requests, and send nothing")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="the results as CSV")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="the results as JUnit XML")


class NamedOption(argparse.Action):
    """Collects NAME=COMMAND options in a dict."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add one option; exit with the usage message if it has no `=`."""
        name, found, command = values.partition("=")
        if not found:
            parser.error(f"expected {option_string} NAME=COMMAND, got no =.")
        known = getattr(namespace, self.dest) or {}
        setattr(namespace, self.dest, {**known, name: command})
