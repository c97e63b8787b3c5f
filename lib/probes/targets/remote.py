"""The probes pointed at a mesh that this project did not build: from outside, with one good token and its forgeries."""

from __future__ import annotations

import json
import shlex
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from lib.crypto import jwt
from lib.errors import ParamsError
from lib.keycloak import oidc
from lib.probes.model import USER, Probe
from lib.probes.reporting import results
from lib.probes.reporting.results import Result
from lib.probes.runner import Kit, Settle, Target, run_probes
from lib.probes.tokens import catalogue
from lib.probes.tokens.catalogue import Missing
from lib.probes.tokens.keys import SigningKey
from lib.probes.transport.messages import Request, prepare
from lib.probes.transport.rate_limit import Limiter, limited
from lib.probes.transport.sockets import over_sockets, place
from lib.redact import clean

OWN_PATH = "/headers"  # what the tables ask of httpbin, and what --path stands for
COMMAND_TIMEOUT = 60  # seconds
SHOWN = 160  # characters of a line in a dry run
WORKERS = 8
SETTLE = Settle(streak=2, deadline=4)


class Settings(BaseModel):
    """What a pointed run needs to know; the command's options and the params file's keys are these."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Annotated[str, Field(pattern=r"^https?://[^/\s@?#]+(/[^\s?#]*)?$", description="the only host that is asked")]
    issuer: str = Field(description="the good token's iss, byte for byte")
    audience: str = Field(description="what the mesh wants in aud")
    token_command: str = Field(description="prints a good token, or JSON with access_token; run without a shell")
    profile: Literal["figure-2", "figure-1", "hardened"] = Field("figure-2", description="whose answers are expected")
    families: str = Field("A,B,C,D", description="letters of the families, or ids, to be asked")
    path: str = Field("", description=f"what is asked instead of httpbin's {OWN_PATH}; empty is the URL's")
    host: str = Field("", description="the Host header, where it is not the URL's")
    status: Annotated[int, Field(ge=200, le=399)] = Field(200, description="the application's own answer to a good one")
    rate: Annotated[float, Field(gt=0, le=1000)] = Field(20, description="requests a second, at most")
    budget: Annotated[int, Field(ge=1, le=100_000)] = Field(500, description="requests in all, at most")
    timeout: Annotated[float, Field(gt=0, le=120)] = Field(10, description="seconds for one request")
    ca: str = Field("", description="a file of certificates to trust instead of the system's")
    fetch_jwks: bool = Field(False, description="ask the issuer for its keys too, since some forgeries need them")
    tokens: dict[str, str] = Field({}, description="further tokens by the tables' names: a command for each")

    @field_validator("path")
    @classmethod
    def _path_is_absolute(cls, value: str) -> str:
        if value and not value.startswith("/"):
            raise ValueError("expected a path that begins with /")
        return value

    @property
    def name(self) -> str:
        """The Host header."""
        return self.host or urlsplit(self.url).netloc

    @property
    def asked(self) -> str:
        """The path that stands for httpbin's."""
        return self.path or urlsplit(self.url).path or "/"

    @property
    def address(self) -> str:
        """Host and port that are connected to, the only ones."""
        place = urlsplit(self.url)
        host = f"[{place.hostname}]" if ":" in place.hostname else place.hostname
        return f"{host}:{place.port or (443 if place.scheme == 'https' else 80)}"

    def tls(self, *protocols: str) -> ssl.SSLContext | None:
        """Return what always verifies certificates, with the host's name; None for http. `protocols` are ALPN's.

        ParamsError where `ca` is no file of certificates.
        """
        if not self.url.startswith("https:"):
            return None
        try:
            made = ssl.create_default_context(cafile=self.ca or None)
        except OSError as error:  # ssl.SSLError is one
            raise ParamsError(f"expected certificates (PEM) in {self.ca!r}, got: {error}; mend --ca.") from None
        if protocols:
            made.set_alpn_protocols(protocols)
        return made


def settings(given: dict, file: Path | None = None) -> Settings:
    """Return the settings of a params file and of what was given besides, which goes first; or a ParamsError."""
    try:
        found = (yaml.safe_load(file.read_text()) if file else None) or {}
        return Settings(**{**found, **given})
    except (OSError, TypeError, yaml.YAMLError) as error:
        raise ParamsError(f"expected a params file of keys and values, got: {error}; mend {file}.") from None
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise ParamsError(f"expected the settings of a pointed run, got {faults}; see docs/probes.md.") from None


def token_of(command: str, run: Callable[..., subprocess.CompletedProcess] = subprocess.run) -> str:
    """Return the token that a command prints, plain or as JSON's access_token; nothing of its output is ever shown."""
    try:
        done = run(shlex.split(command), capture_output=True, text=True, timeout=COMMAND_TIMEOUT)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise _no_token(type(error).__name__) from None
    said = done.stdout.strip()
    if done.returncode:
        raise _no_token(f"exit code {done.returncode}")
    try:
        token = json.loads(said)["access_token"] if said.startswith("{") else said
    except (ValueError, KeyError):
        raise _no_token("JSON without access_token") from None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token or " " in token:
        raise _no_token("something else")
    return token


def good(token: str, issuer: str, audience: str) -> str:
    """Return the token if it is what the settings say it is; ParamsError where its claims are others."""
    try:
        said = jwt.claims(token)
        iss, held = said.get("iss"), said.get("aud", [])
    except (ValueError, IndexError, AttributeError):
        raise _no_token("something that is no JWT") from None
    if iss != issuer:
        raise ParamsError(f"expected a token with iss {issuer!r}, got {iss!r}; mend --issuer or the command.")
    if audience not in ([held] if isinstance(held, str) else held):
        raise ParamsError(f"expected a token with {audience!r} in aud, got {held!r}; mend --audience or the command.")
    return token


def kit(given: Settings, command: Callable[[str], str] = token_of) -> Given:
    """Return where the tokens come from: the good one and what is forged of it, and the further commands'."""
    mine = good(command(given.token_command), given.issuer, given.audience)
    forged = catalogue.Kit(
        good=mine,
        minted=_not_minted,
        jwks=published(given.issuer, given.ca) if given.fetch_jwks else [],
        own=None,
        attacker=SigningKey.generate(),
        issuer=given.issuer,
        audience=given.audience,
        now=time.time,
    )
    return Given({name: command(line) for name, line in given.tokens.items()}, forged)


@dataclass(frozen=True)
class Given:
    """A kit in which tokens that were given go before those that can be forged."""

    known: dict[str, str] = field(repr=False)
    forged: Kit

    def token(self, name: str) -> str:
        """Return the token of this name; Missing says why there is none."""
        return self.known[name] if name in self.known else self.forged.token(name)


def published(issuer: str, ca: str = "") -> list[dict]:
    """Return the issuer's keys as JWKs, by its discovery; no other host is asked than the issuer's own."""
    session = oidc.direct_session()
    session.verify = ca or True
    session.max_redirects = 0
    where = oidc.discovery(issuer, session=session).get("jwks_uri", "")
    if urlsplit(where)[:2] != urlsplit(issuer)[:2]:
        raise ParamsError(f"expected the issuer's keys at its own host, got {where!r}; leave --fetch-jwks out.")
    return oidc.jwks(where, session=session)["keys"]


def planned(probes: Iterable[Probe], kit: Kit, given: Settings) -> tuple[list[tuple[Probe, Request]], list[Result]]:
    """Return what would be sent, tokens in it as fingerprints; and the probes that are not asked, with the reason."""
    fit, left = fitting(probes, given)
    plan: list[tuple[Probe, Request]] = []
    for probe in fit:
        try:
            plan.append((probe, _shown(probe, kit, given.name)))
        except Missing as missing:
            left.append(results.skipped(probe, given.profile, str(missing)))
    why = f"the budget of {given.budget} requests is not enough for it"
    left += [results.skipped(probe, given.profile, why) for probe, _ in plan[given.budget :]]
    return plan[: given.budget], left


def ask(probes: Iterable[Probe], kit: Kit, given: Settings, settle: Settle = SETTLE) -> list[Result]:
    """Return the results of fitting probes, asked within rate and budget; only the URL's host is connected to.

    ParamsError where that one shows a certificate that is not to be believed: then nothing is asked.
    """
    tls, h2 = given.tls(), given.tls("h2")
    _shake_hands(given, tls)
    limiter = Limiter(given.rate, given.budget)
    way = limited(over_sockets(given.address, WORKERS, given.timeout, tls, h2=h2), limiter.turn, WORKERS)
    target = Target(given.profile, given.name, {USER: way})
    return run_probes(probes, [target], kit, drills={}, settle=settle)


def fitting(probes: Iterable[Probe], given: Settings) -> tuple[list[Probe], list[Result]]:
    """Return the probes that can be asked there, made to fit, and those that cannot, skipped with the reason."""
    chosen = [probe for probe in probes if _chosen(probe, given.families)]
    reasons = [(probe, _unfit(probe)) for probe in chosen]
    left = [results.skipped(probe, given.profile, why) for probe, why in reasons if why]
    return [_fitted(probe, given) for probe, why in reasons if not why], left


def _shake_hands(given: Settings, tls: ssl.SSLContext | None) -> None:
    """What else goes wrong with a connection is for the probes to tell."""
    if tls is None:
        return
    host, port = place(given.address)
    try:
        with (
            socket.create_connection((host, port), given.timeout) as plain,
            tls.wrap_socket(plain, server_hostname=host),
        ):
            return
    except ssl.SSLCertVerificationError as error:
        raise ParamsError(
            f"expected a certificate of {given.address} that is for this name, and signed by whom "
            f"{given.ca or 'the system'} trusts, got: {error.verify_message}; ask by a name that it is for, or give "
            "its authority's file by --ca."
        ) from None
    except OSError:
        return


def _not_minted(name: str) -> str:
    raise Missing(f"only Keycloak can mint it: give it by --token {name!r}=COMMAND")


def _no_token(got: str) -> ParamsError:
    return ParamsError(f"expected a token command that prints a token, got {got}; try it alone, in a shell of yours.")


def _chosen(probe: Probe, families: str) -> bool:
    names = {name.strip() for name in families.split(",")}
    return bool(names & {probe.family, probe.id, probe.id[:3]})


def _unfit(probe: Probe) -> str:
    """Return why a probe cannot be asked of somebody else's mesh, or ""."""
    if probe.world:
        return f"it needs a workload of its own, {probe.world!r}"
    if probe.caller != USER:
        return f"it is asked by {probe.caller!r}, from inside the mesh"
    if probe.how != "http":
        return "a sequence holds a connection that rate and budget do not see"
    if probe.path.partition("?")[0] != OWN_PATH:
        return "its path is httpbin's"
    return "it reads what httpbin echoes" if probe.sees or probe.sees_not else ""


def _fitted(probe: Probe, given: Settings) -> Probe:
    """The path and the application's status are those of the mesh."""
    path = given.asked.replace("{", "{{").replace("}", "}}") + probe.path.removeprefix(OWN_PATH)
    answer = probe.expected(given.profile)
    return probe.model_copy(
        update={
            "path": path,
            "expect": f"{given.status} app" if answer == "200 app" else answer,
            "figure_1": None,
            "hardened": None,
        }
    )


def _shown(probe: Probe, kit: Kit, host: str) -> Request:
    used: dict[str, str] = {}

    def token(name: str) -> str:
        return used.setdefault(name, kit.token(name))

    request = prepare(probe, token, host, probe.id)
    masked = lambda text: _masked(text, used)[:SHOWN]  # noqa: E731
    lines = tuple(masked(line) for line in request.headers)
    return Request(request.method, masked(request.target), lines, masked(request.body), request.version, request.label)


def _masked(text: str, used: dict[str, str]) -> str:
    for name, token in sorted(used.items(), key=lambda item: -len(item[1])):
        if token:
            text = text.replace(token, f"[{name} sha256:{jwt.fingerprint(token)}]")
    return clean(text)
