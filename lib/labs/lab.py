"""The lab: a copy of httpbin under Figure 1's policies, in a namespace of its own, to inject faults into."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any

from lib import diagnose
from lib.crypto import jwt
from lib.diagnose.diagnosis import Diagnosis
from lib.errors import RunbookError
from lib.keycloak import oidc, realm_keys, representations
from lib.login import application, log_out
from lib.login.log_out import LogOuts
from lib.names import LABS, LOGIN
from lib.polling import wait
from lib.probes.scenarios.rotation import stopped
from lib.probes.tokens import forge
from lib.probes.tokens.keys import SigningKey
from lib.run import Run
from lib.steps import endpoints, gateway_tls, realm, tokens

NAMESPACE = APP = LABS  # APP is the workload in the namespace
HOST = f"{APP}.example"
FRIEND, STRANGER = "friend", "stranger"  # callers: the policy lists the first, and not the second
NO_SIDECAR = "istio-system/outsider"  # a caller without a sidecar
REALMS = "labs-"  # prefix of the lab's realms; each name is used once, because istiod caches keys by URI
URL = f"http://{APP}.{NAMESPACE}:8000/headers"  # the URL for callers inside the mesh
TOKEN_REUSE = 120  # seconds that a good token is used before the lab fetches another
Object = dict[str, Any]
Key = tuple[str, str, str, str | None]  # apiVersion, kind, name, namespace


def key(manifest: Object) -> Key:
    """Return what identifies a Kubernetes object."""
    metadata = manifest["metadata"]
    return manifest["apiVersion"], manifest["kind"], metadata["name"], metadata.get("namespace")


class Lab:
    """The lab of one environment. `changes` has the objects written since the last `heal`, None for a deleted one."""

    def __init__(self, run: Run) -> None:
        self.run, self.cluster = run, run.cluster
        self.changes: dict[Key, Object | None] = {}
        self.kept: dict[str, str] = {}
        self._good, self._refetch_at = "", 0.0

    @property
    def url(self) -> str:
        """The lab's URL for users, who send the host HOST."""
        return f"{endpoints.ingress_url(self.run)}/headers"

    def build(self) -> None:
        """Create the lab, or repair it, and wait until it is ready."""
        self.apply(self.load("namespace.yaml"))
        for name in (FRIEND, STRANGER):
            self.apply(self.run.load("caller.yaml", name=name, home=NAMESPACE, inject="true"))
        self.changes.clear()
        self.heal()
        for name in (APP, FRIEND, STRANGER):
            self.cluster.wait_rolled_out("Deployment", name, NAMESPACE, self.run.params.deadline)

    def heal(self) -> None:
        """Restore all objects, delete those that a fault added, and wait until the workload is ready."""
        sound = self.objects()
        for added in self.changes.keys() - {key(one) for one in sound}:
            self.cluster.delete(*added)
        if self._workload_changed():
            self.drop_workload()
        self.apply(sound)
        self.cluster.wait_rolled_out("Deployment", APP, NAMESPACE, self.run.params.deadline)
        self.changes.clear()

    def close(self) -> None:
        """Delete the lab and its realms."""
        self.cluster.delete("v1", "Namespace", NAMESPACE)
        keycloak = endpoints.keycloak_admin(self.run)
        for found in keycloak.get("", briefRepresentation="true"):
            if found["realm"].startswith(REALMS):
                keycloak.delete_realm(found["realm"])
        wait(
            f"namespace {NAMESPACE} gone",
            lambda: self.cluster.find("v1", "Namespace", NAMESPACE),
            lambda found: not found,
            deadline=self.run.params.deadline,
        )

    # The lab's objects

    def load(self, file: str, **values: str) -> list[Object]:
        """Return the objects of a manifest, for the lab."""
        return self.run.load(file, **{"name": APP, "namespace": NAMESPACE, **values})

    def objects(self) -> list[Object]:
        """Return the objects of a lab without a fault; the Gateway is the runbook's, and so is a changed login."""
        changed = [name for name in self.changes if name[3] == LOGIN]
        login = [one for one in application.policies(self.run) if key(one) in changed] if changed else []
        return [*self.workload(), *self.route(), *self.policies(), *gateway_tls.gateway(self.run), *login]

    def workload(self) -> list[Object]:
        """Return httpbin's copy: ServiceAccount, Service, Deployment."""
        return self.load("httpbin.yaml")

    def route(self) -> list[Object]:
        """Return the VirtualService or HTTPRoute, bound to the runbook's Gateway."""
        return gateway_tls.route(self.run, APP, NAMESPACE, [HOST])

    def policies(self) -> list[Object]:
        """Return the RequestAuthentication and Figure 1's AuthorizationPolicy."""
        values = {
            "issuer": endpoints.issuer(self.run),
            "jwks_uri": endpoints.jwks_uri(self.run),
            "gateway": endpoints.gateway_principal(self.run),
            "sleep": endpoints.principal(self.run, NAMESPACE, FRIEND),
        }
        files = ("request-authentication.yaml", "figure-1.yaml")
        return [manifest for file in files for manifest in self.load(file, **values)]

    # Changes

    def apply(self, objects: list[Object]) -> None:
        """Apply objects, whatever their state is."""
        for manifest in objects:
            self.changes[key(manifest)] = manifest
            self.cluster.apply(manifest)

    def delete(self, manifest: Object) -> None:
        """Delete an object of the lab."""
        self.changes[key(manifest)] = None
        self.cluster.delete(*key(manifest))

    def set_jwt_rule(self, **changed: Any) -> None:
        """Change the only rule of the RequestAuthentication; None removes a field."""
        authentication = self.policies()[0]
        rule = {**authentication["spec"]["jwtRules"][0], **changed}
        rule = {name: value for name, value in rule.items() if value is not None}
        self.apply([{**authentication, "spec": {**authentication["spec"], "jwtRules": [rule]}}])

    def set_authorization(self, *rules: Object, **spec: Any) -> None:
        """Replace the rules, or other fields of the spec, of the AuthorizationPolicy; None removes a field."""
        policy = self.policies()[1]
        content = {**policy["spec"], **({"rules": list(rules)} if rules else {}), **spec}
        content = {name: value for name, value in content.items() if value is not None}
        self.apply([{**policy, "spec": content}])

    def replace_workload(self, annotations: dict[str, str], probe_path: str = "/status/200") -> None:
        """Start the workload again with annotations, or with another readiness probe."""
        objects = self.workload()
        template = next(one for one in objects if one["kind"] == "Deployment")["spec"]["template"]
        if annotations:
            template["metadata"]["annotations"] = annotations
        template["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"] = probe_path
        self.drop_workload()
        self.apply(objects)

    def drop_workload(self) -> None:
        """Delete the workload's pods and wait until they are gone; a failing rollout would keep the old ones."""
        self.cluster.delete("apps/v1", "Deployment", APP, NAMESPACE)
        wait(
            "the lab's pods gone",
            lambda: self.cluster.items("v1", "Pod", NAMESPACE, f"app={APP}"),
            lambda found: not found,
            deadline=self.run.params.deadline,
        )

    def stopped(self, part: str) -> AbstractContextManager[None]:
        """Return a context that stops istiod or keycloak while it lasts."""
        return stopped(self.run, part)

    def _workload_changed(self) -> bool:
        """Return whether the live Deployment differs from the manifest in what a fault changes."""
        found = self.cluster.find("apps/v1", "Deployment", APP, NAMESPACE)
        template = (found or {}).get("spec", {}).get("template", {})
        probe = str(template.get("spec", {}).get("containers", [{}])[0].get("readinessProbe", ""))
        return bool(template) and (bool(template["metadata"].get("annotations")) or "/status/200" not in probe)

    # Requests

    def ask(
        self,
        token: str | None = None,
        caller: str = "",
        url: str = "",
        host: str = HOST,
        to: str = "",
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
    ) -> Diagnosis:
        """Return the diagnosis of a request: from a user through the gateway, or from a caller in the cluster."""
        if caller:
            return diagnose.ask(self.cluster, url or URL, token, caller if "/" in caller else f"{NAMESPACE}/{caller}")
        return diagnose.ask(self.cluster, url or self.url, token, host=host, to=to, headers=headers, method=method)

    @cached_property
    def log_outs(self) -> LogOuts:
        """The login of step 13 with the deny-list of step 14, and a person who is logged in.

        Raises:
            RunbookError: this environment has no login, or no deny-list.
        """
        if reason := log_out.why_off(self.run):
            raise RunbookError(f"This lab breaks a login, and there is none ({reason}). Run the steps 13 and 14 first.")
        return LogOuts(self.run)

    @property
    def good_token(self) -> str:
        """A valid token of the user; the lab fetches another before it expires."""
        if time.time() > self._refetch_at:
            self._good, self._refetch_at = tokens.user_token(self.run), time.time() + TOKEN_REUSE
        return self._good

    def signed(self, kid: str = "", **claims: Any) -> str:
        """Return a good token with some claims replaced, signed by the realm's imported key.

        With a `kid`, a new key signs it, which the realm does not publish.
        """
        pem = realm_keys.generate_key() if kid else self.run.read_secret(realm.KEY, endpoints.KEYCLOAK)["key"]
        token = forge.signed(SigningKey.from_pem(pem, kid), {**jwt.claims(self.good_token), **claims})
        self.run.record.secret(token)
        return token

    def new_realm_name(self) -> str:
        """Return a name for a realm that was never used."""
        return f"{REALMS}{secrets.token_hex(4)}"

    def realm_token(self, name: str) -> str:
        """Create a realm with the client and the user, if it is missing; return a token of that user."""
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
        response = oidc.password_token(endpoint, client, keycloak.client_secret(name, client), user, password)
        self.run.record.secret(response["access_token"])
        return response["access_token"]

    def rotate_key(self, name: str) -> None:
        """Let a realm sign with a new key from now on."""
        realm_keys.ensure_generated_key(endpoints.keycloak_admin(self.run), name, "newer", realm_keys.OWN_PRIORITY * 2)


@contextmanager
def temporary_lab(run: Run) -> Iterator[Lab]:
    """Create the lab, and delete it at the end, even after an error."""
    lab = Lab(run)
    try:
        lab.build()
        yield lab
    finally:
        lab.heal()
        lab.close()
