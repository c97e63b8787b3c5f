"""Whether the mesh of a run answers a missing token by a challenge, and every other refusal as before."""

from __future__ import annotations

from lib.crypto import jwt
from lib.http_client import Answer, over_http
from lib.istio.answers import JWT, RBAC
from lib.login import application
from lib.names import HARDENED
from lib.polling import wait
from lib.probes import challenge, model, workloads
from lib.probes.targets import this_mesh
from lib.probes.transport.messages import Request
from lib.probes.transport.sockets import over_sockets
from lib.run import Run
from lib.steps import callers, end_user_policy, endpoints, tokens

PATIENCE = 120  # seconds until each Envoy has the filter, or has it no more
PREFLIGHT = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}
SHOWN = "www-authenticate"


def ensure(run: Run) -> None:
    """Do what the steps 10 and 12 do for the challenge."""
    for namespace in ("", HARDENED):
        end_user_policy.delete_challenge(run, namespace)
        run.apply(end_user_policy.challenge(run, namespace))


def seen(run: Run) -> list[str]:
    """Return the answers to users without a token, of each profile."""
    places = [workloads.location(run, profile) for profile in model.PROFILES]
    asked = [(over_sockets(one.address), Request("GET", "/headers", (f"Host: {one.host}",))) for one in places]
    return [send([request])[0].answer for send, request in asked]


def settle(run: Run, answer: str) -> None:
    """Wait until each profile gives this answer to users without a token."""
    streak = 2 * run.params.streak  # the gateway's workers have open connections, which keep the old filter
    wait(f"{answer} for no token", lambda: seen(run), lambda got: got == [answer] * 3, streak=streak, deadline=PATIENCE)


def user(run: Run, path: str = "/headers", app: str = "httpbin", **how) -> Answer:
    """Return the answer to a user of a workload behind the ingress gateway."""
    return over_http(f"{endpoints.ingress_url(run)}{path}", host=f"{app}.example", **how)


def others(run: Run) -> dict[str, tuple[int, str, str]]:
    """Return status, words and challenge of the answers that the param must not change, by a short name."""
    good = tokens.user_token(run)
    asked = {
        "a tampered token": user(run, token=jwt.tampered(good)),
        "no audience": user(run, token=tokens.user_token(run, client_id="no-audience")),
        "no sub": user(run, token=tokens.user_token(run, client_id="no-subject")),
        "no sub, in the query": user(run, f"/headers?access_token={tokens.user_token(run, client_id='no-subject')}"),
        "a good token": user(run, token=good),
        "the application's own 403": user(run, "/status/403", token=good),
        "a preflight": user(run, method="OPTIONS", headers=PREFLIGHT),
        "sleep, Figure 2": callers.caller(run, "sleep", "httpbin")(),
        "sleep, Figure 1": callers.caller(run, "sleep", workloads.PROFILES[model.FIGURE_1])(),
        "visitor, Figure 1": callers.caller(run, "visitor", workloads.PROFILES[model.FIGURE_1])(),
        "the login, a browser": over_http(f"{application.url(run)}/headers"),
        "the login, a program": over_http(f"{application.url(run)}/headers", headers={"Accept": "application/json"}),
    }
    words = {name: "" if got.status in (200, 302) else got.body for name, got in asked.items()}
    return {name: (got.status, words[name], got.headers.get(SHOWN, "")) for name, got in asked.items()}


def assert_challenged(run: Run) -> None:
    """Assert that users without a token get 401 and the challenge, in every profile, and that others do not."""
    settle(run, "401 R")
    for app in ("httpbin", "httpbin-figure-1"):
        for how in ({}, {"method": "POST"}, {"headers": {"Authorization": "Basic dXNlcjpwdw=="}}):
            got = user(run, app=app, **how)
            assert (got.status, got.body, got.headers.get(SHOWN)) == (401, RBAC, f'Bearer realm="{run.params.realm}"')
    got = others(run)
    assert got["a tampered token"][:2] == (401, JWT["J18"]) and 'error="invalid_token"' in got["a tampered token"][2]
    assert got["no sub"] == got["no sub, in the query"] == got["a preflight"] == (403, RBAC, "")
    assert got["sleep, Figure 2"] == got["visitor, Figure 1"] == (403, RBAC, "")
    assert got["no audience"][:2] == (403, JWT["J16"])
    assert got["the application's own 403"] == (403, "", "")
    assert {got[name][0] for name in ("a good token", "sleep, Figure 1")} == {200}
    end_user_policy.check_challenge(run, callers.caller(run, "user", "httpbin"))
    assert [check.verdict for check in run.checks] == ["pass"]
    found = this_mesh.ask(run, *model.PROFILES, probes=[one for one in model.load() if _matters(one)])
    red = [(one.id, one.profile, one.expected, one.got) for one in found if one.verdict not in ("pass", "skipped")]
    assert not red, red


def _matters(probe: model.Probe) -> bool:
    """Whether a probe expects a refusal by RBAC, which the param may change."""
    parts = {part for one in model.PROFILES for part in probe.expected(one).split(", ")}
    return probe.world in ("", *model.PROFILES) and bool(parts & challenge.CHALLENGED.keys())
