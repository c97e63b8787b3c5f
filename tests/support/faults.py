"""Faults beside those of the labs: of little use to a learner, and each cause of `why` should have its advice tried."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lib.labs import callback, changes, faults, login, rules
from lib.labs.fault import Fault, nothing
from lib.labs.lab import HOST, Lab
from lib.login import application
from lib.login.stage import Stage
from lib.polling import wait
from lib.roles import people
from lib.steps import endpoints
from tests.support.loopback import served

STRANGE = "https://idp.example/tenant"  # an issuer that has nothing in common with Keycloak's
INTERNAL = "labs.internal"
REWRITE = {"type": "URLRewrite", "urlRewrite": {"hostname": INTERNAL}}
NO_KEYS = "http://istiod.istio-system.svc.cluster.local:15014/version"  # answers, but not with keys


def keys_copied(lab: Lab) -> None:
    """Copy a key set into the rule that has no longer the realm's key, as after a rotation."""
    copy = [{**one, "kid": f"old-{number}"} for number, one in enumerate(endpoints.published_keys(lab.run))]
    lab.set_jwt_rule(jwksUri=None, jwks=json.dumps({"keys": copy}))


def no_discovery(lab: Lab) -> None:
    """Let the rule be for an issuer without an address, and leave it to istiod to discover where its keys are."""
    lab.set_jwt_rule(issuer=STRANGE, jwksUri=None)
    lab.set_authorization(changes.source(requestPrincipals=[f"{STRANGE}/*"]))


def rejected(lab: Lab) -> None:
    """Let jwksUri lead to no keys, which the workload's proxy refuses; then let everybody in: it does not follow."""
    lab.set_jwt_rule(jwksUri=NO_KEYS)
    lab.set_authorization({})


def rejected_open(lab: Lab) -> None:
    """Let everybody in, then demand a token by a rule that the workload's proxy refuses: the door stays open."""
    policies = lab.policies()
    for one in policies:
        lab.delete(one)
    passes = lambda: ": 200" in lab.ask(None).refused  # noqa: E731
    wait("the lab without policies", passes, bool, deadline=changes.PATIENCE)
    lab.set_jwt_rule(jwksUri=NO_KEYS)
    lab.apply(policies[1:])


def rewritten_host(**rewrite: object) -> changes.Change:
    """Return what lets the route rewrite the host, and the policy allow the host that users ask for."""

    def change(lab: Lab) -> None:
        lab.set_authorization({**changes.users(lab), "to": [{"operation": {"hosts": [HOST]}}]})
        changes.route(**rewrite)(lab)

    return change


@contextmanager
def relay(lab: Lab) -> Iterator[None]:
    """Pass connections on from this machine to the gateway, as a proxy in front of the mesh does."""
    gateway = endpoints.gateway_host(lab.run)

    def copy(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def speak(connection: socket.socket) -> None:
        with socket.create_connection((gateway, 443)) as onward:
            back = threading.Thread(target=copy, args=(onward, connection))
            back.start()
            copy(connection, onward)
            back.join()

    with served(speak) as address:
        lab.kept["port"] = address.rpartition(":")[2]
        yield


FAULTS = [
    Fault("another issuer", "other-issuer", "401", lambda lab: lab.set_jwt_rule(issuer=STRANGE)),
    Fault("an old copy of the keys", "keys-copied", "401", keys_copied),
    Fault("a jwksUri that leads to no keys", "config-rejected", "403", rejected, nothing),
    Fault("an open door and a jwksUri that leads to no keys", "config-rejected", "200", rejected_open, nothing),
    Fault("no jwksUri and no discovery", "discovery", "401", no_discovery, token=lambda lab: lab.signed(iss=STRANGE)),
    Fault("a route that rewrites the host", "host-not-allowed", "403", rewritten_host(rewrite={"authority": INTERNAL}),
          gateway_api={"change": rewritten_host(filters=[REWRITE])}),
    Fault("a token of 60 KiB", "headers-too-large", "431", token=lambda lab: lab.signed(large="x" * 50_000)),
    Fault("a port that the gateway does not have", "nothing-listens", "000",
          url=lambda lab: f"{endpoints.ingress_url(lab.run)}:8099/headers"),
    Fault("a host with a blank", "codec", "400", host="labs example"),
    Fault("a proxy in front of the mesh", "way-not-known", "200", within=relay, to=lambda lab: "127.0.0.1",
          url=lambda lab: f"{endpoints.ingress_url(lab.run)}:{lab.kept['port']}/headers"),
    Fault("a browser without a session", "no-session", "302", token=nothing, url=login.page, host=""),
    Fault("a client that the realm does not have", "client-missing", "400", token=nothing, host="",
          url=lambda lab: Stage(lab.run).authorization_url(client_id="nobody")),
    Fault("a login without PKCE", "login-refused", "302", token=nothing, host="",
          url=lambda lab: Stage(lab.run).authorization_url(code_challenge="", code_challenge_method="")),
    Fault("a callback of no login", "login-callback", "401", token=nothing, host="",
          url=lambda lab: f"{application.url(lab.run)}{application.CALLBACK}?code=x&state=y"),
    Fault("a role that an external authorizer wants", "authorizer-refused", "403",
          token=lambda lab: people.token(lab.run, "reader"), host="roles-opa.example", method="DELETE",
          url=lambda lab: f"{endpoints.ingress_url(lab.run)}/anything/articles/7"),
]  # fmt: skip

EVERY = [*faults.FAULTS, *rules.FAULTS, *login.FAULTS, *callback.FAULTS, *FAULTS]
