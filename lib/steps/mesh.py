"""The runbook's own mesh, found in the live cluster: addresses, issuer, tokens, callers, the table of answers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pandas as pd
import requests

from lib import diagnose
from lib.aws import vpc
from lib.crypto import jwt
from lib.errors import MissingStep, RunbookError
from lib.http_client import Answer, Case, over_exec, over_http, peer
from lib.istio import istioctl
from lib.keycloak import oidc
from lib.keycloak.admin import Keycloak
from lib.kubernetes import port_forward
from lib.polling import until
from lib.record import verdicts
from lib.run import Run
from lib.steps import authority, gateway_tls

KEYCLOAK, KEYCLOAK_EDGE = "keycloak", "keycloak-edge"  # namespaces: its own, and that of the public way to it
KEYCLOAK_SERVICE = "keycloak-http"  # the public one
INSIDE = f"keycloak.{KEYCLOAK}.svc.cluster.local"  # at which pods and istiod reach Keycloak
EXPIRED = "token-expired"  # Secret: a token of the realm whose life is over
WORKERS = 8  # cases asked at once


def address(run: Run, name: str, namespace: str, step: str) -> str:
    """Return the public address of a Service of type LoadBalancer; MissingStep names the step that makes it."""
    run.need("v1", "Service", name, namespace, step=step)
    return run.cluster.wait_address(name, namespace, run.params.deadline)


def keycloak_host(run: Run) -> str:
    """Return Keycloak's public host: the params', or else its load balancer's address."""
    return run.params.keycloak_host or address(run, KEYCLOAK_SERVICE, KEYCLOAK_EDGE, "03-keycloak")


def keycloak_url(run: Run) -> str:
    """Return Keycloak's public address, the one that every issuer begins with."""
    return f"{gateway_tls.scheme(run)}://{keycloak_host(run)}"


def issuer(run: Run, realm: str = "") -> str:
    """Return a realm's issuer: one name, the same for browsers, pods and istiod."""
    return f"{keycloak_url(run)}/realms/{realm or run.params.realm}"


def jwks_uri(run: Run, realm: str = "") -> str:
    """Return where istiod fetches a realm's keys: inside the cluster, so no way out and back in is needed."""
    return f"{inside_url(run)}/realms/{realm or run.params.realm}/protocol/openid-connect/certs"


def inside_url(run: Run) -> str:
    """Return the address at which pods and istiod reach Keycloak."""
    return f"{gateway_tls.scheme(run)}://{INSIDE}"


def issuer_inside(run: Run, execute: istioctl.Execute) -> str:
    """Return the issuer that Keycloak tells a pod of, asked by its name inside; else what came instead."""
    inside = f"{inside_url(run)}/realms/{run.params.realm}/.well-known/openid-configuration"
    said = over_exec(execute, inside)
    return json.loads(said.body)["issuer"] if said.status == 200 else f"{said.status} {said.reason}"


def ingress_url(run: Run) -> str:
    """Return the ingress gateway's public address."""
    return f"{gateway_tls.scheme(run)}://{gateway_host(run)}"


def gateway_host(run: Run) -> str:
    """Return the ingress gateway's public host: the params', or else its load balancer's address."""
    return run.params.gateway_host or address(run, istioctl.GATEWAY, istioctl.ROOT_NAMESPACE, "02-istio")


def principal(run: Run, namespace: str, account: str) -> str:
    """Return a service account's principal, as AuthorizationPolicy writes it: without spiffe://."""
    return f"{istioctl.trust_domain(run.cluster)}/ns/{namespace}/sa/{account}"


def gateway_principal(run: Run) -> str:
    """Return the principal of the live ingress gateway: a name written from memory locks users out in silence."""
    live = istioctl.ingress(run.cluster)
    return principal(run, live["namespace"], live["account"])


def admin(run: Run) -> Keycloak:
    """Return Keycloak's administration, reached through the Kubernetes API, never by its public address."""
    known = run.read_secret("keycloak-admin", KEYCLOAK)
    return Keycloak(inside_url(run), known["username"], known["password"], tunnelled(run))


def tunnelled(run: Run, port: int = 0) -> requests.Session:
    """Return a session whose requests to `inside_url` reach Keycloak's pod through the Kubernetes API."""
    number = port or (8080 if run.params.tls == authority.OFF else 8443)
    return port_forward.session(lambda: run.cluster.connect("app=keycloak", KEYCLOAK, number))


def renew_policy(run: Run) -> None:
    """Tell what step 10 applied, where it is there already, the issuer that Keycloak has by now.

    Until then nobody's token is good. Each object is replaced, none taken away, so nothing is open meanwhile.
    """
    names = {"name": "httpbin", "issuer": issuer(run), "jwks_uri": jwks_uri(run)}
    wanted = [*run.load("request-authentication.yaml", **names), *run.load("figure-2.yaml", **names)]
    place = lambda thing: (thing["metadata"]["name"], thing["metadata"]["namespace"])  # noqa: E731
    run.apply([one for one in wanted if run.cluster.find(one["apiVersion"], one["kind"], *place(one))])


def check_injection(run: Run) -> None:
    """Record whether the nodes let the control plane reach istiod, and whether a pod would get its sidecar."""
    if run.params.cluster_source == "eks":
        found = run.aws("eks").describe_cluster(name=run.params.cluster_name)["cluster"]["resourcesVpcConfig"]
        group = found["clusterSecurityGroupId"]
        shut = vpc.shut(run.aws("ec2"), group, istioctl.PORTS)
        told = f"add a rule to {group} that lets it in from itself: without 15017 no pod gets a sidecar" if shut else ""
        run.check(f"ports shut in the cluster's security group, of {istioctl.PORTS}", [], shut, told)
    fix = "let the control plane reach the nodes' port 15017 (their security group), and see istiod's log"
    run.check_ready("a pod gets its sidecar (dry run)", True, lambda: istioctl.injects(run.cluster), why=lambda: fix)


def user_token(run: Run, client_id: str = "", realm: str = "", user: str = "") -> str:
    """Return an access token of a user, the params' own, through a client, from the public token endpoint."""
    return user_tokens(run, client_id, realm, user)["access_token"]


def user_tokens(run: Run, client_id: str = "", realm: str = "", user: str = "", scope: str = "openid") -> dict:
    """Return all that the token endpoint gives a user: access_token, and refresh_token and id_token as by `scope`."""
    client_id, realm, user = client_id or run.params.client_id, realm or run.params.realm, user or run.params.user
    secret = run.read_secret(f"client-{realm}-{client_id}", KEYCLOAK)["client-secret"]
    password = run.read_secret(f"user-{user}", KEYCLOAK)["password"]
    endpoint = oidc.discovery(issuer(run, realm))["token_endpoint"]
    said = oidc.password_token(endpoint, client_id, secret, user, password, scope)
    for name in ("access_token", "refresh_token", "id_token"):
        run.record.secret(said.get(name))
    return said


def test_tokens(run: Run) -> dict[str, str | None]:
    """Return the tokens of lib.cases.TOKENS by name: minted by the real Keycloak where it can, else made from one."""
    good = user_token(run)
    made = {
        "none": None,
        "valid": good,
        "tampered": jwt.tampered(good),
        "garbage": "not-a-token",
        "unsigned": jwt.unsigned(good),
        "expired": run.read_secret(EXPIRED, KEYCLOAK)["token"],
        "other realm": user_token(run, realm="other"),
        "wrong audience": user_token(run, client_id="no-audience"),
        "no subject": user_token(run, client_id="no-subject"),
    }
    for name, token in made.items():
        if token and token.count(".") == 2:
            run.record.write("token", **jwt.row(name, token))
    return made


def token_table(run: Run) -> pd.DataFrame:
    """Return what may be shown of this step's tokens: claims, lifetime in seconds, fingerprint."""
    rows = [event for event in run.record.events if event["event"] == "token"]
    columns = ["name", "fingerprint", "alg", "iss", "aud", "azp", "sub", "lifetime"]
    return pd.DataFrame([{column: row.get(column) for column in columns} for row in rows], columns=columns)


def inside(run: Run) -> dict[str, istioctl.Execute]:
    """Return, by caller inside the cluster, a function that runs a command in its pod."""
    return {name: run.cluster.execute(f"app={name}", home, "curl") for name, home in _homes(run).items()}


def _homes(run: Run) -> dict[str, str]:
    here = run.params.namespace
    return {"sleep": here, "visitor": here, "outsider": istioctl.ROOT_NAMESPACE}


@dataclass(frozen=True)
class Caller:
    """One who asks a workload, each time on a fresh connection: from here as `host`, or from a pod by its curl."""

    run: Run
    url: str
    host: str = ""
    pod: str = ""  # namespace/app
    execute: istioctl.Execute | None = None

    def __call__(self, token: str | None) -> Answer:
        """Return the answer to a request with this token, or without one."""
        if self.execute:
            return over_exec(self.execute, self.url, token=token)
        return over_http(self.url, token=token, host=self.host)

    def why(self, token: str | None) -> str:
        """Return in three sentences who refused it, why, and what to change (lib.diagnose); why that cannot be told."""
        try:
            return diagnose.ask(self.run.cluster, self.url, token, self.pod, self.host).told()
        except RunbookError as error:
            return f"why cannot be told: {error}"


def callers(run: Run, workload: str, path: str) -> dict[str, Caller]:
    """Return who asks `workload`, by name."""
    public, own = f"{ingress_url(run)}{path}", f"http://{workload}.{run.params.namespace}:8000{path}"
    outside = {"user": Caller(run, public, f"{workload}.example")}
    return outside | {
        name: Caller(run, own, pod=f"{_homes(run)[name]}/{name}", execute=execute)
        for name, execute in inside(run).items()
    }


def check_cases(run: Run, figure: str, workload: str, cases: list[Case], known: dict[str, str | None]) -> pd.DataFrame:
    """Ask every case until its answer holds (params.streak times in a row, fresh connections); return the table.

    Each 200 must also come from whom it should: httpbin tells the SPIFFE id that the last proxy vouched for.
    """
    ways = callers(run, workload, "/headers")
    ids = {"user": f"spiffe://{gateway_principal(run)}"}
    ids |= {name: f"spiffe://{principal(run, run.params.namespace, name)}" for name in ("sleep", "visitor")}

    limit = run.patience

    def one(case: Case) -> dict:
        return _settled(run, figure, case, ways[case.caller], known[case.token], ids.get(case.caller, ""), limit)

    with ThreadPoolExecutor(WORKERS) as pool:
        rows = list(pool.map(one, cases))
    columns = ["", "caller", "token", "expected", "got", "reason", "latency_ms", "seconds", "tries"]
    return pd.DataFrame([{"": verdicts.MARKS[row["verdict"]], **row} for row in rows], columns=columns)


def check_status(run: Run, name: str, caller: Caller, token: str | None, expected: int, reason: str = "") -> None:
    """Ask until the status is the expected one, and record that; where it is not, with who refused it and why."""
    ask, told = lambda: caller(token).status, lambda: caller.why(token)
    run.check_until(name, expected, ask, run.params.streak, reason, told)


def keys_agree(run: Run, workload: str) -> str:
    """Return whose keys the workload's sidecar checks tokens with: it must be 'the issuer's' (lib.istio.key_state)."""
    execute = run.cluster.execute(f"app={workload}", run.params.namespace, "istio-proxy")
    return istioctl.key_state(istioctl.jwks_held(execute).get(issuer(run)), published_keys(run))


def published_keys(run: Run) -> list[dict]:
    """Return the keys that the realm publishes, as JWKs, by its discovery."""
    return oidc.jwks(oidc.discovery(issuer(run))["jwks_uri"])["keys"]


def require_realm(run: Run) -> None:
    """Raise MissingStep unless the realm answers with this very issuer: a policy that comes first gets no keys."""
    try:
        oidc.discovery(issuer(run))
    except Exception as error:
        raise MissingStep(
            f"expected the realm {run.params.realm} at {issuer(run)}, got: {error}; run 04-realm-and-client first."
        ) from None


def _settled(run: Run, figure: str, case: Case, caller: Caller, token: str | None, identity: str, limit: float) -> dict:
    fits = lambda got: _as_expected(case, got, identity)  # noqa: E731
    answer = until(lambda: caller(token), fits, streak=run.params.streak, deadline=limit)
    got = answer.value or Answer(0, answer.error, 0.0)
    reason = peer(got) if got.status == 200 else got.reason
    row = {
        "figure": figure,
        "request": "GET /headers",
        "caller": case.caller,
        "token": case.token,
        "expected": case.expected,
        "got": got.status,
        "reason": reason,
        "latency_ms": got.latency_ms,
    }
    wanted = f"{case.expected} {case.reason or identity}".strip()
    means = "" if answer.held else caller.why(token)
    verdict = verdicts.of(answer.held, bool(answer.error))
    actual, name = f"{got.status} {reason}".strip(), f"{figure}: {case.name}"
    check = run.keep(name, wanted, actual, verdict, answer.seconds, answer.tries, means, row)
    return {**check.row(), **row}


def _as_expected(case: Case, got: Answer, identity: str) -> bool:
    if got.status != case.expected:
        return False
    return peer(got) == identity if got.status == 200 else case.reason in (got.body or got.reason)
