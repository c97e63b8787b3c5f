"""Ways to break it, each with the request that shows it and the cause that `why` must name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from lib.crypto import jwt
from lib.diagnose import jwks, pods
from lib.diagnose.diagnosis import Diagnosis
from lib.errors import RunbookError
from lib.labs.lab import APP, FRIEND, HOME, HOST, NAKED, STRANGER, URL, Lab
from lib.polling import until, wait
from lib.probes import workloads
from lib.probes.model import HARDENED
from lib.probes.scenarios import rotation
from lib.steps import endpoints, gateway_tls, realm, tokens

GIVEN_UP = "Failed to refresh JWT public key"  # istiod's words
PATIENCE = 40  # seconds that a change may take to reach the proxies
Token = Callable[[Lab], str | None]


def good(lab: Lab) -> str:
    """A user's good token."""
    return lab.good


def kept(lab: Lab) -> str:
    """The token that was fetched while it was being broken."""
    return lab.kept["token"]


def nothing(lab: Lab) -> None:
    """Nothing: no token, or nothing that is broken."""


@dataclass(frozen=True)
class Break:
    """One way: `make` breaks it, or `within` does as long as it lasts; who asks with what then; the cause to be named.

    `cause` is the name that lib.diagnose gives it, `prediction` what a learner may be asked to foretell.
    """

    name: str
    cause: str
    prediction: str
    make: Callable[[Lab], object] = nothing
    token: Token = good
    caller: str = ""
    url: Callable[[Lab], str] = lambda lab: ""
    host: str = HOST
    to: Callable[[Lab], str] = lambda lab: ""
    within: Callable[[Lab], AbstractContextManager] = lambda lab: nullcontext()

    @contextmanager
    def made(self, lab: Lab) -> Iterator[None]:
        """Break the lab, and make it sound again at the end."""
        try:
            with self.within(lab):
                self.make(lab)
                yield
        finally:
            lab.heal()
            sound = lambda: {lab.ask(lab.good).cause, lab.ask(caller=FRIEND).cause}  # noqa: E731
            wait("the lab to be sound again", sound, lambda found: found == {"allowed"}, deadline=PATIENCE)

    def why(self, lab: Lab, patience: float = PATIENCE) -> Diagnosis:
        """Ask until the cause is named, or the mesh has had the time to follow; return the last diagnosis."""
        ask = lambda: lab.ask(self.token(lab), self.caller, self.url(lab), self.host, self.to(lab))  # noqa: E731
        got = until(ask, lambda found: found.cause == self.cause, deadline=patience)
        if got.value is None:
            raise RunbookError(f"expected an answer about {self.name}, got: {got.error}")
        return got.value


def _issuer(change: Callable[[str], str]) -> Callable[[Lab], None]:
    return lambda lab: lab.rule(issuer=change(endpoints.issuer(lab.run)))


def _keys(uri: str) -> Callable[[Lab], None]:
    return lambda lab: lab.rule(jwksUri=uri)


def _missing_realm(lab: Lab) -> None:
    lab.rule(jwksUri=endpoints.jwks_uri(lab.run, "nowhere"))


def _too_early(lab: Lab) -> None:
    """The policy first, and its realm when istiod has looked for it in vain."""
    name = lab.new_name()
    lab.rule(issuer=endpoints.issuer(lab.run, name), jwksUri=endpoints.jwks_uri(lab.run, name))
    # It asks seven times more, a second apart (jwks_resolver.go), and would have the keys if the realm came meanwhile
    said = lambda: jwks.istiod_log(lab.cluster, PATIENCE)  # noqa: E731
    given_up = lambda: any(GIVEN_UP in line and name in line for line in said())  # noqa: E731
    wait("istiod to have given up", given_up, bool, deadline=PATIENCE)
    lab.kept["token"] = lab.realm(name)


def _rotated(lab: Lab) -> None:
    """Envoy gets the realm's keys, and the realm a newer one."""
    name = lab.new_name()
    first = lab.realm(name)
    lab.rule(issuer=endpoints.issuer(lab.run, name), jwksUri=endpoints.jwks_uri(lab.run, name))
    known = lambda: lab.ask(first).cause  # noqa: E731
    wait("Envoy to hold the realm's keys", known, lambda cause: cause == "issuer-not-in-rule", deadline=PATIENCE)
    lab.new_key(name)
    lab.kept["token"] = lab.realm(name)


def _policy(name: str, namespace: str = HOME, **spec) -> dict:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}


def _deny(lab: Lab) -> None:
    rules = [{"to": [{"operation": {"paths": ["/headers"]}}]}]
    lab.add(_policy("no-headers", selector={"matchLabels": {"app": APP}}, action="DENY", rules=rules))


def _elsewhere(lab: Lab) -> None:
    policy = lab.policies()[1]
    lab.delete(policy)
    lab.add({**policy, "metadata": {**policy["metadata"], "namespace": lab.run.params.namespace}})


def _permissive(lab: Lab) -> None:
    metadata = {"name": "default", "namespace": HOME}
    spec = {"mtls": {"mode": "PERMISSIVE"}}
    about = {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication", "metadata": metadata}
    lab.add({**about, "spec": spec})


def _destination_rule(lab: Lab) -> None:
    spec = {"host": f"{APP}.{HOME}.svc.cluster.local", "trafficPolicy": {"tls": {"mode": "DISABLE"}}}
    metadata = {"name": "plain", "namespace": HOME}
    lab.add({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": metadata, "spec": spec})


def _service(**changed) -> Callable[[Lab], None]:
    def make(lab: Lab) -> None:
        service = next(thing for thing in lab.workload() if thing["kind"] == "Service")
        lab.apply([{**service, "spec": {**service["spec"], **changed}}])

    return make


def _route(**changed) -> Callable[[Lab], None]:
    def make(lab: Lab) -> None:
        (virtual,) = lab.route()
        http = {**virtual["spec"]["http"][0], **changed}
        lab.apply([{**virtual, "spec": {**virtual["spec"], "http": [http]}}])

    return make


def _gateway_selector(lab: Lab) -> None:
    (gateway,) = gateway_tls.gateway(lab.run)
    lab.apply([{**gateway, "spec": {**gateway["spec"], "selector": {"istio": "ingres"}}}])


def _no_credential(lab: Lab) -> None:
    """The Gateway names a Secret that is not there."""
    (gateway,) = gateway_tls.gateway(lab.run)
    first, *rest = gateway["spec"]["servers"]
    servers = [{**first, "tls": {**first["tls"], "credentialName": "gateway-tsl"}}, *rest]
    lab.apply([{**gateway, "spec": {**gateway["spec"], "servers": servers}}])


def _hardened(lab: Lab) -> str:
    """The hardened gateway's address."""
    return str(workloads.place(lab.run, HARDENED).address).rpartition(":")[0]


def _unready(lab: Lab) -> None:
    things = lab.workload()
    container = next(one for one in things if one["kind"] == "Deployment")["spec"]["template"]["spec"]["containers"][0]
    container["readinessProbe"]["httpGet"]["path"] = "/status/500"
    lab.drop_workload()
    lab.apply(things)
    _probed(lab)


def _plain_probes(lab: Lab) -> None:
    lab.annotate({"rewriteAppHTTPProbers": "false"})
    _probed(lab)


def _probed(lab: Lab) -> None:
    """Wait until no pod of the workload is ready, and the kubelet has said of a probe why."""

    def seen() -> pods.Workload | None:
        found = lab.cluster.items("v1", "Pod", HOME, f"app={APP}")
        return pods.workload_of(found, pods.probe_failure(lab.cluster, found))

    complained = lambda one: one and pods.PROBE_FAILED in one.problem  # noqa: E731
    wait("the kubelet to complain of a probe", seen, complained, deadline=lab.run.params.deadline)


def _sources(**source) -> dict:
    return {"from": [{"source": source}]}


def _users(lab: Lab, **more) -> dict:
    return {"from": [{"source": {"requestPrincipals": [f"{endpoints.issuer(lab.run)}/*"]}}], **more}


def _two_issuers(lab: Lab) -> None:
    authentication = lab.policies()[0]
    other = {"issuer": endpoints.issuer(lab.run, realm.OTHER), "jwksUri": endpoints.jwks_uri(lab.run, realm.OTHER)}
    spec = authentication["spec"]
    lab.apply([{**authentication, "spec": {**spec, "jwtRules": [*spec["jwtRules"], other]}}])


@contextmanager
def _istiod_down(lab: Lab):
    with lab.stopped("istiod"):
        lab.delete(lab.policies()[1])  # deleting is what the API takes while istiod's webhook does not answer
        yield


@contextmanager
def _slow_istiod(lab: Lab):
    """Istiod collects changes for some time before it sends them: as on a busy mesh."""
    try:
        rotation.discovery(lab.run, PILOT_DEBOUNCE_AFTER="20s", PILOT_DEBOUNCE_MAX="25s")
        lab.allow({})
        yield
    finally:
        rotation.discovery(lab.run)


@contextmanager
def _keycloak_down(lab: Lab):
    token = lab.good
    with lab.stopped("keycloak"):
        lab.rule(jwksUri=f"{endpoints.jwks_uri(lab.run)}?asked=anew")  # another URI is one that istiod has not got yet
        lab.kept["token"] = token
        yield


BREAKS = [
    Break("issuer with a slash", "issuer-mismatch", "401", _issuer(lambda one: f"{one}/")),
    Break(
        "issuer with another port",
        "issuer-mismatch",
        "401",
        _issuer(lambda one: one.replace("/realms", ":8080/realms")),
    ),
    Break("issuer by http", "issuer-mismatch", "401", _issuer(lambda one: one.replace("https:", "http:"))),
    Break("issuer with /auth", "issuer-mismatch", "401", _issuer(lambda one: one.replace("/realms", "/auth/realms"))),
    Break("issuer by another host", "issuer-mismatch", "401", _issuer(lambda one: "https://sso.example/realms/istio")),
    Break(
        "no audience mapper", "audience", "403", token=lambda lab: tokens.user_token(lab.run, client_id="no-audience")
    ),
    Break("keys rotated", "keys-stale", "401", _rotated, token=kept),
    Break("policy before its realm", "keys-too-early", "401", _too_early, token=kept),
    Break("no such realm", "realm-missing", "401", _missing_realm),
    Break(
        "jwksUri that leads nowhere", "keys-unreachable", "401", _keys("https://sso.nowhere.svc.cluster.local/certs")
    ),
    Break(
        "jwksUri that istiod does not trust",
        "keys-untrusted",
        "401",
        _keys("https://kubernetes.default.svc.cluster.local/openid/v1/jwks"),
    ),
    Break("Keycloak down", "keycloak-down", "401", token=kept, within=_keycloak_down),
    Break(
        "expired", "expired", "401", token=lambda lab: lab.run.read_secret(tokens.EXPIRED, endpoints.KEYCLOAK)["token"]
    ),
    Break("not yet valid", "not-yet-valid", "401", token=lambda lab: lab.signed(nbf=int(time.time()) + 600)),
    Break(
        "the issuer's clock is ahead",
        "clock",
        "401",
        token=lambda lab: lab.signed(iat=int(time.time()) + 600, nbf=int(time.time()) + 600),
    ),
    Break("refresh token", "wrong-token-type", "403", token=lambda lab: tokens.user_tokens(lab.run)["refresh_token"]),
    Break(
        "ID token",
        "wrong-token-type",
        "403",
        lambda lab: lab.allow(_users(lab, when=[{"key": "request.auth.claims[typ]", "values": ["Bearer"]}])),
        token=lambda lab: tokens.user_tokens(lab.run)["id_token"],
    ),
    Break("the word null", "not-a-jwt", "401", token=lambda lab: "null"),
    Break("nobody's signature", "algorithm", "401", token=lambda lab: jwt.unsigned(lab.good)),
    Break("changed on its way", "signature", "401", token=lambda lab: jwt.tampered(lab.good)),
    Break("a key of nobody's", "foreign-key", "401", token=lambda lab: lab.signed(kid="nobodys")),
    Break("no token", "no-token", "403", token=nothing),
    Break("no sub", "no-subject", "403", token=lambda lab: tokens.user_token(lab.run, client_id="no-subject")),
    Break(
        "a role that the user lacks",
        "claim-missing",
        "403",
        lambda lab: lab.allow(
            _users(lab, when=[{"key": "request.auth.claims[realm_access][roles]", "values": [realm.READER]}])
        ),
        token=lambda lab: tokens.user_token(lab.run, user=realm.VISITOR),
    ),
    Break(
        "two issuers, one rule",
        "issuer-not-in-rule",
        "403",
        _two_issuers,
        token=lambda lab: tokens.user_token(lab.run, realm=realm.OTHER),
    ),
    Break(
        "no slash before the star",
        "principal-pattern",
        "403",
        lambda lab: lab.allow(_sources(requestPrincipals=[f"{endpoints.issuer(lab.run)}*"])),
    ),
    Break("no RequestAuthentication", "no-request-authentication", "403", lambda lab: lab.delete(lab.policies()[0])),
    Break(
        "token stripped on the route",
        "token-stripped",
        "403",
        _route(headers={"request": {"remove": ["authorization"]}}),
    ),
    Break("wrong service account", "caller-not-listed", "403", token=nothing, caller=STRANGER),
    Break(
        "another gateway's account",
        "gateway-principal",
        "403",
        lambda lab: lab.allow(_sources(principals=["cluster.local/ns/ingress/sa/gateway"], requestPrincipals=["*"])),
    ),
    Break(
        "the Service's port in the policy",
        "service-port",
        "403",
        lambda lab: lab.allow({**_users(lab), "to": [{"operation": {"ports": ["8000"]}}]}),
    ),
    Break(
        "a path that is not allowed",
        "path-not-allowed",
        "403",
        lambda lab: lab.allow({**_users(lab), "to": [{"operation": {"paths": ["/public/*"]}}]}),
    ),
    Break("DENY before ALLOW", "denied", "403", _deny),
    Break("a policy without rules", "deny-all", "403", lambda lab: lab.allow(rules=None)),
    Break(
        "a selector without a match",
        "selector",
        "200",
        lambda lab: lab.allow(selector={"matchLabels": {"app": "lab"}}),
        token=nothing,
    ),
    Break("policy in another namespace", "wrong-namespace", "200", _elsewhere, token=nothing),
    Break("RequestAuthentication alone", "nothing-demanded", "200", lambda lab: lab.delete(lab.policies()[1]), nothing),
    Break("sidecar missing", "sidecar-missing", "200", lambda lab: lab.annotate({"inject": "false"}), nothing, FRIEND),
    Break("PERMISSIVE where STRICT was meant", "permissive", "403", _permissive, nothing, NAKED),
    Break("plain text to STRICT", "plain-text", "000", token=nothing, caller=NAKED),
    Break("DestinationRule without mutual TLS", "destination-rule", "503", _destination_rule, nothing, FRIEND),
    Break("probe refused", "probe-refused", "503", _plain_probes),
    Break("not ready", "not-ready", "503", _unready),
    Break("a Service that selects nobody", "no-pods", "503", _service(selector={"app": "lab"})),
    Break(
        "port not named http",
        "port-not-http",
        "503",
        _service(ports=[{"name": "tcp-web", "port": 8000, "targetPort": 8080}]),
    ),
    Break("no route for the path", "path-not-routed", "404", _route(match=[{"uri": {"prefix": "/public"}}])),
    Break(
        "host that the gateway does not know",
        "host-not-matched",
        "404",
        host="nowhere.example",
        url=lambda lab: f"https://{workloads.PROFILES[HARDENED]}.example/headers",
        to=_hardened,
    ),
    Break(
        "a name that the gateway has no certificate for",
        "name-not-served",
        "000",
        host="",
        to=_hardened,
        url=lambda lab: "https://nowhere.example/headers",
    ),
    Break(
        "a name that is not the certificate's",
        "certificate",
        "000",
        host="",
        to=lambda lab: endpoints.gateway_host(lab.run),
        url=lambda lab: "https://elsewhere.example/headers",
    ),
    Break("a certificate that is not there", "no-certificate", "000", _no_credential),
    Break("Gateway that selects no gateway", "gateway-selector", "000", _gateway_selector),
    Break("a name that is not there", "name", "000", nothing, nothing, NAKED, lambda lab: URL.replace(HOME, "nowhere")),
    Break("istiod down", "istiod-down", "403", within=_istiod_down, token=nothing),
    Break("a change of a moment ago", "policy-just-applied", "403", within=_slow_istiod, token=nothing),
]
