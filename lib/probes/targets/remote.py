"""Sends the probes from outside to a mesh of somebody else, with one good token and its forgeries."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from lib.crypto import jwt
from lib.errors import ParamsError
from lib.keycloak import oidc
from lib.probes import challenge
from lib.probes.model import USER, Probe, load
from lib.probes.reporting import results
from lib.probes.reporting.results import Result
from lib.probes.runner import RetryPolicy, Target, run_probes
from lib.probes.targets.address import MeshAddress, read_settings, transport
from lib.probes.tokens.catalogue import TOKENS
from lib.probes.tokens.keys import SigningKey
from lib.probes.tokens.kit import Kit, Missing
from lib.probes.transport.messages import Request, masked_request

NO_KEY, WRONG_SIGNATURE = "401 J17", "401 J18"
OWN_PATH = "/headers"  # the path in the tables, which --path replaces
COMMAND_TIMEOUT = 60  # seconds for a token command
RETRY = RetryPolicy(streak=2, deadline=4)


class RemoteSettings(MeshAddress):
    """The options of the command, which are also the keys of its params file."""

    issuer: str = Field(description="the good token's iss, byte for byte")
    audience: str = Field("", description="the audience that the mesh requires in aud; empty if it requires none")
    token_command: str = Field(description="prints a good token, or JSON with access_token; run without a shell")
    profile: Literal["figure-2", "figure-1", "hardened"] = Field(
        "figure-2", description="the profile that gives the expected answers"
    )
    families: str = Field("A,B,C,D", description="letters of families, or ids of probes, to send")
    missing_token: Literal[403, 401] = Field(403, description="the mesh's answer to a request without a token")
    path: str = Field("", description=f"the path instead of httpbin's {OWN_PATH}; by default the URL's")
    status: Annotated[int, Field(ge=200, le=399)] = Field(
        200, description="the application's status for the good token"
    )
    fetch_jwks: bool = Field(False, description="ask the issuer for its keys too, since some forgeries need them")
    tokens: dict[str, str] = Field({}, description="further tokens by the tables' names, each with a command")

    @field_validator("path")
    @classmethod
    def _path_is_absolute(cls, value: str) -> str:
        if value and not value.startswith("/"):
            raise ValueError("expected a path that begins with /")
        return value

    @property
    def asked_path(self) -> str:
        """The path that replaces httpbin's."""
        return self.path or urlsplit(self.url).path or "/"


def settings(given: dict, file: Path | None = None) -> RemoteSettings:
    """Return the settings of the params file and of `given`, which wins; ParamsError if they are not valid."""
    return read_settings(RemoteSettings, given, file, "docs/probes.md")


def token_of(command: str, run: Callable[..., subprocess.CompletedProcess] = subprocess.run) -> str:
    """Return the token that a command prints, plain or as JSON with access_token; its output is never shown."""
    try:
        done = run(shlex.split(command), capture_output=True, text=True, timeout=COMMAND_TIMEOUT)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise _no_token(type(error).__name__) from None
    output = done.stdout.strip()
    if done.returncode:
        raise _no_token(f"exit code {done.returncode}")
    try:
        token = json.loads(output)["access_token"] if output.startswith("{") else output
    except (ValueError, KeyError):
        raise _no_token("JSON without access_token") from None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token or " " in token:
        raise _no_token("something else")
    return token


def good(token: str, issuer: str, audience: str) -> str:
    """Return the token if its iss and aud are the expected ones, else raise ParamsError."""
    try:
        claims = jwt.claims(token)
        iss, held = claims.get("iss"), claims.get("aud", [])
    except (ValueError, IndexError, AttributeError):
        raise _no_token("something that is not a JWT") from None
    if iss != issuer:
        raise ParamsError(f"expected a token with iss {issuer!r}, got {iss!r}; correct --issuer or the command.")
    if audience and audience not in ([held] if isinstance(held, str) else held):
        raise ParamsError(
            f"expected a token with {audience!r} in aud, got {held!r}; correct --audience or its command."
        )
    return token


def token_source(
    given: RemoteSettings, command: Callable[[str], str] = token_of, keys: list[dict] | None = None
) -> Callable[[str], str]:
    """Return a function that gives tokens by name: the options' own, the good one, and those forged from it.

    It raises Missing, with the reason, for a token that it can neither run a command for nor forge. `keys` are the
    issuer's; by default they are fetched if the options say so.
    """
    kit = Kit(
        catalogue=TOKENS,
        good=good(command(given.token_command), given.issuer, given.audience),
        issued=_not_issued,
        jwks=issuer_keys(given) if keys is None else keys,
        own=None,
        attacker=SigningKey.generate(),
        issuer=given.issuer,
        audience=given.audience,
        now=time.time,
    )
    known = {name: command(line) for name, line in given.tokens.items()}
    return lambda name: known[name] if name in known else kit.token(name)


def issuer_keys(given: RemoteSettings) -> list[dict]:
    """Return the issuer's keys as JWKs if the options say to fetch them, else []."""
    return published(given.issuer, given.ca) if given.fetch_jwks else []


def published(issuer: str, ca: str = "") -> list[dict]:
    """Return the issuer's keys as JWKs, through its discovery; ParamsError if they are at another host."""
    session = oidc.direct_session()
    session.verify = ca or True
    session.max_redirects = 0
    uri = oidc.discovery(issuer, session=session).get("jwks_uri", "")
    if urlsplit(uri)[:2] != urlsplit(issuer)[:2]:
        raise ParamsError(f"expected the issuer's keys at its own host, got {uri!r}; leave --fetch-jwks out.")
    return oidc.jwks(uri, session=session)["keys"]


def prepared(
    given: RemoteSettings,
) -> tuple[list[tuple[Probe, Request]], list[Result], Callable[[str], str]]:
    """Return the plan of all probes, those that cannot be sent, and the tokens' source, which has run its commands."""
    keys = issuer_keys(given)
    token = token_source(given, keys=keys)
    return *plan(load(), token, given, keys), token


def ask_all(given: RemoteSettings) -> list[Result]:
    """Send all probes that can be sent; return their results, and behind them the others with the reason.

    Raises:
        ParamsError: As for `ask`.
    """
    planned, left, token = prepared(given)
    return [*ask([probe for probe, _ in planned], token, given), *left]


def plan(
    probes: Iterable[Probe], token: Callable[[str], str], given: RemoteSettings, keys: Sequence[dict] = ()
) -> tuple[list[tuple[Probe, Request]], list[Result]]:
    """Return the probes with their requests, tokens as fingerprints; and the skipped probes with the reason.

    The expected reason of a forged signature follows the issuer's keys; without `keys`, the good token's own key.
    """
    fit, left = fitting(probes, given)
    fit = [by_keys(probe, token, keys) for probe in fit]
    planned: list[tuple[Probe, Request]] = []
    for probe in fit:
        try:
            planned.append((probe, masked_request(probe, token, given.name)))
        except Missing as missing:
            left.append(results.skipped(probe, given.profile, str(missing)))
    why = f"the budget of {given.budget} requests is not enough for it"
    left += [results.skipped(probe, given.profile, why) for probe, _ in planned[given.budget :]]
    return planned[: given.budget], left


def ask(
    probes: Iterable[Probe], token: Callable[[str], str], given: RemoteSettings, retry: RetryPolicy = RETRY
) -> list[Result]:
    """Send fitting probes within rate and budget, to the URL's host alone; return their results.

    Raises:
        ParamsError: The host's certificate cannot be trusted. No probe was sent.
    """
    target = Target(given.profile, given.name, {USER: transport(given)})
    return run_probes(probes, [target], token, scenarios={}, retry=retry)


def fitting(probes: Iterable[Probe], given: RemoteSettings) -> tuple[list[Probe], list[Result]]:
    """Return the probes adapted to the mesh, and those that cannot be sent there, skipped with the reason."""
    chosen = [probe for probe in probes if _chosen(probe, given.families)]
    chosen = challenge.of_probes(chosen) if given.missing_token == 401 else chosen
    reasons = [(probe, _unfit(probe) or _without_audience(probe, given)) for probe in chosen]
    left = [results.skipped(probe, given.profile, why) for probe, why in reasons if why]
    return [_fitted(probe, given) for probe, why in reasons if not why], left


def path_of(probe: Probe, given: RemoteSettings) -> str:
    """Return a probe's path with the mesh's own in place of httpbin's."""
    return given.asked_path.replace("{", "{{").replace("}", "}}") + probe.path.removeprefix(OWN_PATH)


def by_keys(probe: Probe, token: Callable[[str], str], keys: Sequence[dict]) -> Probe:
    """Return the probe with the reason that Envoy gives for these keys.

    Envoy says J17 if no key has the token's kid and alg; if one has both, or has no alg, it tries the key: J18.
    Source: google/jwt_verify_lib src/verify.cc, verifyJwtWithoutTimeChecking.
    """
    if probe.expect != NO_KEY or not probe.token:
        return probe
    try:
        head, good_head = jwt.header(token(probe.token)), jwt.header(token("good"))
    except (Missing, KeyError, ValueError, IndexError):
        return probe
    known = keys or [good_head]
    tried = [
        key
        for key in known
        if (not head.get("kid") or key.get("kid") in (None, "", head["kid"]))
        and key.get("alg") in (None, "", head.get("alg"))
    ]
    return probe.model_copy(update={"expect": WRONG_SIGNATURE}) if tried else probe


def _not_issued(name: str) -> str:
    raise Missing(f"only Keycloak can issue it: give it with --token {name}=COMMAND")


def _no_token(got: str) -> ParamsError:
    return ParamsError(
        f"expected a token command that prints a token, got {got}; run the command in a shell to see why."
    )


def _chosen(probe: Probe, families: str) -> bool:
    names = {name.strip() for name in families.split(",")}
    return bool(names & {probe.family, probe.id, probe.id[:3]})


def _unfit(probe: Probe) -> str:
    """Return why a probe cannot be sent to somebody else's mesh, or ""."""
    if probe.world:
        return f"it needs a workload of its own, {probe.world!r}"
    if probe.caller != USER:
        return f"its caller {probe.caller!r} is inside the mesh"
    if probe.how != "http":
        return "its scenario opens connections outside rate and budget"
    if probe.path.partition("?")[0] != OWN_PATH:
        return "its path is httpbin's"
    return "it needs httpbin's echo" if probe.sees or probe.sees_not else ""


def _without_audience(probe: Probe, given: RemoteSettings) -> str:
    about = "aud" in probe.token.split() or "audience" in probe.token or "J16" in probe.expected(given.profile)
    return "the mesh requires no audience, so no token is refused for its own" if about and not given.audience else ""


def _fitted(probe: Probe, given: RemoteSettings) -> Probe:
    """Return the probe with the mesh's path and the application's status."""
    answer = probe.expected(given.profile)
    return probe.model_copy(
        update={
            "path": path_of(probe, given),
            "expect": f"{given.status} app" if answer == "200 app" else answer,
            "figure_1": None,
            "hardened": None,
        }
    )
