"""The faults of the labs, each with the request that shows it and the cause that `why` must name."""

from __future__ import annotations

import time

from lib.crypto import jwt
from lib.labs import changes
from lib.labs.fault import Fault, kept, nothing
from lib.labs.lab import FRIEND, NAMESPACE, NO_SIDECAR, STRANGER, URL
from lib.probes import workloads
from lib.probes.model import HARDENED
from lib.steps import endpoints, realm, tokens

FAULTS = [
    Fault("issuer with a slash", "issuer-mismatch", "401", changes.issuer(lambda one: f"{one}/")),
    Fault(
        "issuer with another port",
        "issuer-mismatch",
        "401",
        changes.issuer(lambda one: one.replace("/realms", ":8080/realms")),
    ),
    Fault("issuer by http", "issuer-mismatch", "401", changes.issuer(lambda one: one.replace("https:", "http:"))),
    Fault(
        "issuer with /auth",
        "issuer-mismatch",
        "401",
        changes.issuer(lambda one: one.replace("/realms", "/auth/realms")),
    ),
    Fault(
        "issuer by another host",
        "issuer-mismatch",
        "401",
        changes.issuer(lambda one: "https://sso.example/realms/istio"),
    ),
    Fault(
        "no audience mapper", "audience", "403", token=lambda lab: tokens.user_token(lab.run, client_id="no-audience")
    ),
    Fault("keys rotated", "keys-stale", "401", changes.rotated_key, token=kept),
    Fault("policy before its realm", "keys-too-early", "401", changes.policy_before_realm, token=kept),
    Fault("no such realm", "realm-missing", "401", changes.missing_realm),
    Fault(
        "jwksUri that leads nowhere",
        "keys-unreachable",
        "401",
        changes.jwks_uri("https://sso.nowhere.svc.cluster.local/certs"),
    ),
    Fault(
        "jwksUri that istiod does not trust",
        "keys-untrusted",
        "401",
        changes.jwks_uri("https://kubernetes.default.svc.cluster.local/openid/v1/jwks"),
    ),
    Fault("Keycloak down", "keycloak-down", "401", token=kept, within=changes.keycloak_down),
    Fault("expired", "expired", "401", token=lambda lab: tokens.expired_token(lab.run)),
    Fault("not yet valid", "not-yet-valid", "401", token=lambda lab: lab.signed(nbf=int(time.time()) + 600)),
    Fault(
        "the issuer's clock is ahead",
        "clock",
        "401",
        token=lambda lab: lab.signed(iat=int(time.time()) + 600, nbf=int(time.time()) + 600),
    ),
    Fault("refresh token", "wrong-token-type", "403", token=lambda lab: tokens.user_tokens(lab.run)["refresh_token"]),
    Fault(
        "ID token",
        "wrong-token-type",
        "403",
        lambda lab: lab.set_authorization(
            changes.users(lab, when=[{"key": "request.auth.claims[typ]", "values": ["Bearer"]}])
        ),
        token=lambda lab: tokens.user_tokens(lab.run)["id_token"],
    ),
    Fault("the word null", "not-a-jwt", "401", token=lambda lab: "null"),
    Fault("nobody's signature", "algorithm", "401", token=lambda lab: jwt.unsigned(lab.good_token)),
    Fault("changed on its way", "signature", "401", token=lambda lab: jwt.tampered(lab.good_token)),
    Fault("a key of nobody's", "foreign-key", "401", token=lambda lab: lab.signed(kid="nobodys")),
    Fault("no token", "no-token", "403", token=nothing),
    Fault("no sub", "no-subject", "403", token=lambda lab: tokens.user_token(lab.run, client_id="no-subject")),
    Fault(
        "a role that the user lacks",
        "claim-missing",
        "403",
        lambda lab: lab.set_authorization(
            changes.users(lab, when=[{"key": "request.auth.claims[realm_access][roles]", "values": [realm.READER]}])
        ),
        token=lambda lab: tokens.user_token(lab.run, user=realm.VISITOR),
    ),
    Fault(
        "two issuers, one rule",
        "issuer-not-in-rule",
        "403",
        changes.second_issuer,
        token=lambda lab: tokens.user_token(lab.run, realm=realm.OTHER),
    ),
    Fault(
        "no slash before the star",
        "principal-pattern",
        "403",
        lambda lab: lab.set_authorization(changes.source(requestPrincipals=[f"{endpoints.issuer(lab.run)}*"])),
    ),
    Fault("no RequestAuthentication", "no-request-authentication", "403", lambda lab: lab.delete(lab.policies()[0])),
    Fault(
        "token stripped on the route",
        "token-stripped",
        "403",
        changes.route(headers={"request": {"remove": ["authorization"]}}),
        gateway_api={"change": changes.route(filters=[changes.WITHOUT_TOKEN])},
    ),
    Fault("wrong service account", "caller-not-listed", "403", token=nothing, caller=STRANGER),
    Fault(
        "another gateway's account",
        "gateway-principal",
        "403",
        lambda lab: lab.set_authorization(
            changes.source(principals=["cluster.local/ns/ingress/sa/gateway"], requestPrincipals=["*"])
        ),
    ),
    Fault(
        "the Service's port in the policy",
        "service-port",
        "403",
        lambda lab: lab.set_authorization({**changes.users(lab), "to": [{"operation": {"ports": ["8000"]}}]}),
    ),
    Fault(
        "a path that is not allowed",
        "path-not-allowed",
        "403",
        lambda lab: lab.set_authorization({**changes.users(lab), "to": [{"operation": {"paths": ["/public/*"]}}]}),
    ),
    Fault("DENY before ALLOW", "denied", "403", changes.deny_headers),
    Fault("a policy without rules", "deny-all", "403", lambda lab: lab.set_authorization(rules=None)),
    Fault(
        "a selector without a match",
        "selector",
        "200",
        lambda lab: lab.set_authorization(selector={"matchLabels": {"app": "lab"}}),
        token=nothing,
    ),
    Fault("policy in another namespace", "wrong-namespace", "200", changes.policy_elsewhere, token=nothing),
    Fault("RequestAuthentication alone", "nothing-demanded", "200", lambda lab: lab.delete(lab.policies()[1]), nothing),
    Fault(
        "sidecar missing",
        "sidecar-missing",
        "200",
        lambda lab: lab.replace_workload({"sidecar.istio.io/inject": "false"}),
        nothing,
        FRIEND,
    ),
    Fault("PERMISSIVE where STRICT was meant", "permissive", "403", changes.permissive, nothing, NO_SIDECAR),
    Fault("plain text to STRICT", "plain-text", "000", token=nothing, caller=NO_SIDECAR),
    Fault(
        "DestinationRule without mutual TLS", "destination-rule", "503", changes.plain_destination_rule, nothing, FRIEND
    ),
    Fault("probe refused", "probe-refused", "503", changes.plain_text_probe),
    Fault("not ready", "not-ready", "503", changes.failing_probe),
    Fault("a Service that selects nobody", "no-pods", "503", changes.service(selector={"app": "lab"})),
    Fault(
        "port not named http",
        "port-not-http",
        "503",
        changes.service(ports=[{"name": "tcp-web", "port": 8000, "targetPort": 8080}]),
    ),
    Fault(
        "no route for the path",
        "path-not-routed",
        "404",
        changes.route(match=[{"uri": {"prefix": "/public"}}]),
        gateway_api={"change": changes.route(matches=[{"path": {"type": "PathPrefix", "value": "/public"}}])},
    ),
    Fault(
        "host that the gateway does not know",
        "host-not-matched",
        "404",
        host="nowhere.example",
        url=lambda lab: f"https://{workloads.PROFILES[HARDENED]}.example/headers",
        to=changes.hardened_gateway,
    ),
    Fault(
        "a name that the gateway has no certificate for",
        "name-not-served",
        "000",
        host="",
        to=changes.hardened_gateway,
        url=lambda lab: "https://nowhere.example/headers",
    ),
    Fault(
        "a name that is not the certificate's",
        "certificate",
        "000",
        host="",
        to=lambda lab: endpoints.gateway_host(lab.run),
        url=lambda lab: "https://elsewhere.example/headers",
    ),
    Fault(
        "a certificate that is not there",
        "no-certificate",
        "000",
        changes.gateway(lambda spec: spec["servers"][0]["tls"].update(credentialName="gateway-tsl")),
        gateway_api={
            "cause": "listener-not-programmed",
            "change": changes.gateway(
                lambda spec: spec["listeners"][0]["tls"].update(certificateRefs=[{"name": "gateway-tsl"}])
            ),
        },
    ),
    Fault(
        "Gateway that selects no gateway",
        "gateway-selector",
        "000",
        changes.gateway(lambda spec: spec.update(selector={"istio": "ingres"})),
        gateway_api={
            "cause": "listener-not-programmed",
            "change": changes.gateway(lambda spec: spec.update(gatewayClassName="istoi")),
        },
    ),
    Fault(
        "a name that is not there",
        "name",
        "000",
        nothing,
        nothing,
        FRIEND,
        lambda lab: URL.replace(NAMESPACE, "nowhere"),
    ),
    Fault("istiod down", "istiod-down", "403", within=changes.istiod_down, token=nothing),
    Fault("a change of a moment ago", "policy-just-applied", "403", within=changes.slow_istiod, token=nothing),
]
