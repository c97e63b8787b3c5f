"""The answers that probes expect if the params ask for a challenge to users without a token (`missing_token: 401`)."""

from __future__ import annotations

from collections.abc import Iterable

from lib.probes.model import PROFILES, USER, Probe
from lib.probes.reporting.baselines import Answers
from lib.probes.scenarios.requests import SCENARIOS

CHALLENGED = {"403 R": "401 R", "7 R": "16 R"}  # HTTP; and gRPC's PERMISSION_DENIED, UNAUTHENTICATED
PREFLIGHT = "access-control-request-method:"


def expects(probe: Probe) -> bool:
    """Return whether a probe is a user's without a token that the policies verify.

    A token elsewhere than in `token` counts as missing where the expected answer is RBAC's. A preflight never carries
    credentials (Fetch, 4.8), so it gets no challenge. Envoy's JWT filter reads no token of a CONNECT: it has no path.
    Scenarios of other peers do not pass the gateway.
    """
    lines = [line.lower() for line in probe.headers]
    dropped = any(line.startswith("connection:") and "authorization" in line for line in lines)  # RFC 9110, 7.6.1
    preflight = probe.method == "OPTIONS" and any(line.startswith(PREFLIGHT) for line in lines)
    challenged = not probe.world or probe.world in PROFILES  # the other worlds have no challenge
    through_gateway = probe.caller == USER and (probe.how == "http" or probe.how in SCENARIOS)
    unread = not probe.token or dropped or probe.method == "CONNECT"
    return challenged and through_gateway and not preflight and unread


def of_probes(probes: Iterable[Probe]) -> list[Probe]:
    """Return the probes with 401 where a user without a token gets RBAC's refusal."""
    return [_of_probe(probe) if expects(probe) else probe for probe in probes]


def of_baseline(known: Answers, probes: Iterable[Probe]) -> Answers:
    """Return the baseline answers with 401 where a user without a token gets RBAC's refusal."""
    ids = {probe.id for probe in probes if expects(probe)}
    return {
        id: {name: _of(text) if id in ids and name in PROFILES else text for name, text in row.items()}
        for id, row in known.items()
    }


def _of_probe(probe: Probe) -> Probe:
    changed: dict[str, str | list[str] | None] = {}
    for field in ("expect", "figure_1", "hardened"):
        value = getattr(probe, field)
        changed[field] = [_of(one) for one in value] if isinstance(value, list) else value and _of(value)
    return probe.model_copy(update=changed)


def _of(answer: str) -> str:
    return ", ".join(CHALLENGED.get(part, part) for part in answer.split(", "))
