"""The workload that is broken on purpose: a copy of httpbin under Figure 1's policy, in a namespace of its own."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager

from joserfc import jwt
from joserfc.jwk import RSAKey

from lib.crypto import jwt as crypto_jwt
from lib.diagnose import ask
from lib.diagnose.diagnosis import Diagnosis
from lib.keycloak import oidc, realm_keys, representations
from lib.polling import wait
from lib.probes.scenarios.rotation import stopped
from lib.run import Run
from lib.steps import endpoints, gateway_tls, tokens
from lib.steps import realm as steps_realm

HOME = APP = "labs"  # namespace, and the workload in it
HOST = f"{APP}.example"
FRIEND, STRANGER = "friend", "stranger"  # callers: one that the policy lists, and one that it does not
NAKED = "istio-system/outsider"  # a caller without a sidecar
REALMS = "labs-"  # how the realms begin that breaks about keys make; each name is used once: istiod keeps keys by URI
URL = f"http://{APP}.{HOME}:8000/headers"  # as callers inside ask


class Lab:
    """The lab of one environment; `ask` is `why` about it."""

    def __init__(self, run: Run):
        self.run, self.cluster = run, run.cluster
        self._extra: list[tuple[str, str, str, str | None]] = []
        self._good, self._until = "", 0.0
        self.kept: dict[str, str] = {}

    @property
    def url(self) -> str:
        """The lab's URL for users; its host is HOST."""
        return f"{endpoints.ingress_url(self.run)}/headers"

    def build(self) -> None:
        """Make the lab, or make it sound again, and wait until it is ready."""
        self.apply(self.load("namespace.yaml"))
        for name in (FRIEND, STRANGER):
            self.apply(self.run.load("caller.yaml", name=name, home=HOME, inject="true"))
        self.heal()
        for name in (APP, FRIEND, STRANGER):
            self.cluster.wait_rolled_out("Deployment", name, HOME, self.run.params.deadline)

    def heal(self) -> None:
        """Make all objects what they were before anything was broken, and wait until the workload is ready."""
        for api_version, kind, name, namespace in self._extra:
            self.cluster.delete(api_version, kind, name, namespace)
        self._extra.clear()
        if self._replaced():
            self.drop_workload()
        self.apply([*self.workload(), *self.route(), *self.policies(), *gateway_tls.gateway(self.run)])
        self.cluster.wait_rolled_out("Deployment", APP, HOME, self.run.params.deadline)

    def close(self) -> None:
        """Take the lab away, with its realm."""
        self.cluster.delete("v1", "Namespace", HOME)
        keycloak = endpoints.keycloak_admin(self.run)
        for realm in keycloak.get("", briefRepresentation="true"):
            if realm["realm"].startswith(REALMS):
                keycloak.delete_realm(realm["realm"])
        gone = lambda: self.cluster.find("v1", "Namespace", HOME)  # noqa: E731
        wait(f"namespace {HOME} gone", gone, lambda found: not found, deadline=self.run.params.deadline)

    # What it is made of

    def load(self, file: str, **values: str) -> list[dict]:
        """Return the objects of a manifest, for the lab."""
        return self.run.load(file, **{"name": APP, "namespace": HOME, **values})

    def workload(self) -> list[dict]:
        """Return httpbin's copy: account, Service, Deployment."""
        return self.load("httpbin.yaml")

    def route(self) -> list[dict]:
        """Return the way in by the runbook's gateway."""
        things = self.load("route.yaml", hosts=HOST)
        things[0]["spec"]["gateways"] = [f"{self.run.params.namespace}/httpbin-gateway"]
        return things

    def policies(self) -> list[dict]:
        """Return the RequestAuthentication and Figure 1's AuthorizationPolicy."""
        run = self.run
        names = {
            "issuer": endpoints.issuer(run),
            "jwks_uri": endpoints.jwks_uri(run),
            "gateway": endpoints.gateway_principal(run),
        }
        files = ("request-authentication.yaml", "figure-1.yaml")
        friend = endpoints.principal(run, HOME, FRIEND)
        return [thing for file in files for thing in self.load(file, sleep=friend, **names)]

    # Breaking

    def apply(self, things: list[dict]) -> None:
        """Apply objects, whatever they were."""
        for thing in things:
            self.cluster.apply(thing)

    def add(self, thing: dict) -> None:
        """Apply an object that a sound lab does not have."""
        metadata = thing["metadata"]
        self._extra.append((thing["apiVersion"], thing["kind"], metadata["name"], metadata.get("namespace")))
        self.cluster.apply(thing)

    def rule(self, **changed) -> None:
        """Change the one rule of the RequestAuthentication; None takes a key away."""
        authentication = self.policies()[0]
        rule = {**authentication["spec"]["jwtRules"][0], **changed}
        rule = {key: value for key, value in rule.items() if value is not None}
        self.apply([{**authentication, "spec": {**authentication["spec"], "jwtRules": [rule]}}])

    def allow(self, *rules: dict, **spec) -> None:
        """Put rules, or another spec, into the AuthorizationPolicy."""
        policy = self.policies()[1]
        content = {**policy["spec"], **({"rules": list(rules)} if rules else {}), **spec}
        self.apply([{**policy, "spec": {key: value for key, value in content.items() if value is not None}}])

    def annotate(self, notes: dict[str, str]) -> None:
        """Start the workload anew, with annotations of sidecar.istio.io."""
        things = self.workload()
        template = next(thing for thing in things if thing["kind"] == "Deployment")["spec"]["template"]
        template["metadata"]["annotations"] = {f"sidecar.istio.io/{name}": value for name, value in notes.items()}
        self.drop_workload()
        self.apply(things)

    def delete(self, thing: dict) -> None:
        """Delete an object of the lab."""
        metadata = thing["metadata"]
        self.cluster.delete(thing["apiVersion"], thing["kind"], metadata["name"], metadata.get("namespace"))

    def drop_workload(self) -> None:
        """Delete the workload's pods and wait until they are gone: a rollout would keep the old ones while it fails."""
        self.cluster.delete("apps/v1", "Deployment", APP, HOME)
        pods = lambda: self.cluster.items("v1", "Pod", HOME, f"app={APP}")  # noqa: E731
        wait("the lab's pods gone", pods, lambda found: not found, deadline=self.run.params.deadline)

    def stopped(self, part: str):
        """Return a context in which istiod or keycloak does not run."""
        return stopped(self.run, part)

    def _replaced(self) -> bool:
        found = self.cluster.find("apps/v1", "Deployment", APP, HOME)
        template = (found or {}).get("spec", {}).get("template", {})
        probe = str(template.get("spec", {}).get("containers", [{}])[0].get("readinessProbe", ""))
        return bool(template) and (bool(template["metadata"].get("annotations")) or "/status/200" not in probe)

    # Asking

    def ask(
        self, token: str | None = None, caller: str = "", url: str = "", host: str = HOST, to: str = ""
    ) -> Diagnosis:
        """Return why, of a user (through the gateway, or connected to `to`) or of a caller in the cluster."""
        if caller:
            home = caller if "/" in caller else f"{HOME}/{caller}"
            return ask(self.cluster, url or URL, token, home)
        return ask(self.cluster, url or self.url, token, host=host, to=to)

    @property
    def good(self) -> str:
        """A user's good token, fetched anew before it is old."""
        if time.time() > self._until:
            self._good, self._until = tokens.user_token(self.run), time.time() + 120
        return self._good

    def signed(self, kid: str = "", **claims) -> str:
        """Return a token with a good one's claims and these, signed by the key of the realm that is known here.

        With a `kid` it is signed by a key of nobody's, under that name.
        """
        pem = realm_keys.generate_key() if kid else self.run.read_secret(steps_realm.KEY, endpoints.KEYCLOAK)["key"]
        head = {"alg": "RS256", "typ": "JWT", "kid": kid or realm_keys.key_id(pem)}
        token = jwt.encode(head, {**crypto_jwt.claims(self.good), **claims}, RSAKey.import_key(pem))
        self.run.record.secret(token)
        return token

    def new_name(self) -> str:
        """Return a name for a realm that nobody has used."""
        return f"{REALMS}{secrets.token_hex(4)}"

    def realm(self, name: str) -> str:
        """Make a realm with the client and a user of its own, where it is not there; return the user's token."""
        keycloak, client, user = endpoints.keycloak_admin(self.run), self.run.params.client_id, self.run.params.user
        password = oidc.generate_password()
        self.run.record.secret(password)
        keycloak.ensure_realm_with_user(
            representations.realm(name, sslRequired=gateway_tls.ssl_required(self.run), accessTokenLifespan=900),
            [representations.client(client)],
            representations.user(user),
            password,
            audience=client,
        )
        endpoint = f"{endpoints.issuer(self.run, name)}/protocol/openid-connect/token"
        said = oidc.password_token(endpoint, client, keycloak.client_secret(name, client), user, password)
        self.run.record.secret(said["access_token"])
        return said["access_token"]

    def new_key(self, name: str) -> None:
        """Let a realm of the lab sign with a new key from now on."""
        realm_keys.ensure_generated_key(endpoints.keycloak_admin(self.run), name, "newer", realm_keys.OWN_PRIORITY * 2)


@contextmanager
def lab(run: Run) -> Iterator[Lab]:
    """Make the lab, and take it away again at the end, whatever happens."""
    made = Lab(run)
    try:
        made.build()
        yield made
    finally:
        made.heal()
        made.close()
