"""What Istio does today with a request of the translator's laws: by the project's one evaluator, lib.istio.evaluator.

tests/e2e/test_evaluator.py compares that evaluator with the real Envoy; it shares nothing with lib/legacy.
"""

from __future__ import annotations

import json
from functools import lru_cache

from lib.crypto.base64url import encoded
from lib.istio import authentication, evaluator, policies
from lib.istio.evaluator import Call
from tests.support.legacy_then import Request

PREFLIGHT = {"origin": "https://app.example", "access-control-request-method": "GET"}


def allowed(things: list[dict], request: Request, labels: dict) -> bool:
    """Return whether a request gets in to pods with these labels."""
    place = request.namespace, labels
    mode = policies.mode(things, *place, str(request.port["targetPort"]))[0]
    if mode == "STRICT" and not request.caller:
        return False
    headers = {**request.headers, **(PREFLIGHT if request.preflight else {})}
    if request.token:
        headers["authorization"] = f"Bearer {_written(json.dumps(request.token, sort_keys=True))}"
    path = request.path + request.query
    claims: dict = {}
    if request.http:
        rules = authentication.rules(policies.applying(things, policies.REQUESTS, *place))
        good = bool(request.token and request.token["good"])
        found = authentication.authenticate(rules, request.method, path, headers, lambda *_: good, 0)
        if found.error:
            return False
        claims, headers = dict(found.claims), dict(found.headers)
    call = Call(
        principal=(request.caller or "") if mode != "DISABLE" else "",
        claims=claims,
        method=request.method,
        path=path,
        port=str(request.port["targetPort"]),
        headers=headers,
        complete=True,
        tcp=not request.http,
    )
    verdict = evaluator.decide(policies.applying(things, policies.RULES, *place), call)
    assert not verdict.unknown, verdict
    return verdict.allowed is True


@lru_cache(maxsize=64)
def _written(claims: str) -> str:
    """Return a token with these claims; whether its signature is good is another argument."""
    stated = {key: value for key, value in json.loads(claims).items() if key != "good" and value not in ("", [])}
    return ".".join(encoded(json.dumps(part).encode()) for part in ({"alg": "RS256"}, stated, "s"))
