"""Step 13: an application with a public address of its own, and the login of the gateway in front of it.

`login_engine` names the OAuth 2.0 client of Keycloak (authorization code with PKCE): the gateway's Envoy keeps the
tokens in the browser's cookies, encrypted; oauth2-proxy keeps them in redis. Both pass the access token on in
`Authorization`. The application's sidecar verifies that token by Figure 1's policies: nobody trusts the login for
the user's identity.
"""

from __future__ import annotations

import base64
import hashlib

import yaml

from lib import polling
from lib.http_client import over_http
from lib.istio.installation import GatewayService
from lib.keycloak import oidc, representations
from lib.kubernetes import service_annotations
from lib.login.engines import SESSION
from lib.names import LOGIN
from lib.probes.model import OAUTH2_PROXY
from lib.run import MANIFESTS, Run
from lib.steps import authority, endpoints, gateway_tls, realm, tokens

NAME = "application"  # the Deployment behind the login; its namespace is LOGIN
GATEWAY = "gateway"
SERVICE = GatewayService(GATEWAY, LOGIN, GATEWAY)
CLIENT = "browser"  # Keycloak's client: the gateway
CALLBACK, SIGN_OUT = "/oauth2/callback", "/oauth2/sign_out"
SESSION_KEY, FILES = "session-key", "oauth2"  # Secrets: the key of the sessions; what the gateway's pod mounts
REFRESH = "15s"  # how often at most a session of oauth2-proxy asks Keycloak for a new token
PROXYS = "login/oauth2-proxy.yaml"


def host(run: Run) -> str:
    """Return the application's public host: `login_host` of the params, otherwise its load balancer's address."""
    return run.params.login_host or endpoints.load_balancer_address(run, SERVICE, "13-browser-login")


def url(run: Run) -> str:
    """Return the application's public URL."""
    return f"{gateway_tls.scheme(run)}://{host(run)}"


def why_off(run: Run) -> str:
    """Return why this environment has no login; "" if it has one."""
    if run.params.login_engine == "none":
        return "login_engine: none"
    return (
        "tls: off: a browser keeps the cookies of a session only with https" if run.params.tls == authority.OFF else ""
    )


def address_objects(run: Run) -> list[dict]:
    """Return the namespace and the Service that gets the public address; none without a login."""
    return [] if why_off(run) else service_annotations.gateway(run.load("login/address.yaml"), run.params)


def client(run: Run) -> dict:
    """Return the JSON of Keycloak's client: the code flow alone, PKCE required, one address to return to."""
    at = "https://application.invalid" if why_off(run) else url(run)
    return representations.client(
        CLIENT,
        directAccessGrantsEnabled=False,
        standardFlowEnabled=True,
        redirectUris=[f"{at}{CALLBACK}"],
        notBefore=0,
        attributes={"pkce.code.challenge.method": "S256", "post.logout.redirect.uris": f"{at}/"},
    )


def ensure_client(run: Run) -> None:
    """Create or update the client, its audience mapper and its role, unless there is no login."""
    if why_off(run):
        return
    keycloak, name = endpoints.keycloak_admin(run), run.params.realm
    realm.record(run, "client", f"{name}/{CLIENT}", keycloak.ensure_client(name, client(run)))
    mapper = representations.audience_mapper(run.params.client_id)
    realm.record(run, "audience mapper", f"{name}/{CLIENT}", keycloak.ensure_audience_mapper(name, CLIENT, mapper))
    run.changed("role of client", f"{name}/{CLIENT}", keycloak.ensure_client_role(name, CLIENT, realm.READER))
    realm.keep_client_secret(run, keycloak, name, CLIENT)


def ensure_secrets(run: Run) -> dict[str, str]:
    """Create the gateway's certificate and Secrets; return the certificate's public fields.

    The engine's pod mounts the client's secret and the session key as files. Envoy reads a changed file by itself.
    """
    if why_off(run):
        return {}
    secret = tokens.client_secret(run, CLIENT)
    key = run.secret(SESSION_KEY, LOGIN, key=oidc.generate_password)["key"]
    files = {"client-secret": secret, SESSION_KEY: key}
    run.put_secret(FILES, LOGIN, **{f"{name}.yaml": _resource(name, value) for name, value in files.items()})
    if uses_proxy(run):
        run.put_secret(OAUTH2_PROXY, LOGIN, **files)
    root = base64.b64encode(authority.trusted_certificates(run).encode()).decode()
    metadata = {"name": "keycloak-ca", "namespace": LOGIN}
    run.apply([{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"ca.crt": root}}])
    return gateway_tls.gateway_certificate(run, LOGIN, [host(run)])


def uses_proxy(run: Run) -> bool:
    """Return whether the engine is oauth2-proxy."""
    return run.params.login_engine == OAUTH2_PROXY


def login_objects(run: Run) -> list[dict]:
    """Return the objects of the login's engine: Envoy's filter, or oauth2-proxy with redis; none without a login."""
    return [] if why_off(run) else _proxy(run) if uses_proxy(run) else _filter(run)


def delete_other_engine(run: Run) -> None:
    """Delete the engine that the params do not name, if it is in the cluster: the gateway asks only one."""
    if not uses_proxy(run) and run.cluster.find("apps/v1", "Deployment", OAUTH2_PROXY, LOGIN):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": OAUTH2_PROXY, "namespace": LOGIN}}
        for one in [*reversed(_proxy(run)), secret]:
            run.delete(one)
    elif uses_proxy(run):
        for one in _filter(run):
            run.delete(one)


def objects(run: Run) -> list[dict]:
    """Return the gateway and the application behind it; none without a login."""
    if why_off(run):
        return []
    gateway = service_annotations.gateway(run.load("login/gateway.yaml", login_host=host(run)), run.params)
    return [*gateway, *run.load("httpbin.yaml", name=NAME, namespace=LOGIN)]


def policies(run: Run) -> list[dict]:
    """Return Figure 1's two policies, from the manifests of step 12: only the names differ."""
    if why_off(run):
        return []
    names = {"name": NAME, "namespace": LOGIN, "issuer": endpoints.issuer(run), "jwks_uri": endpoints.jwks_uri(run)}
    who = {
        "gateway": endpoints.principal(run, LOGIN, GATEWAY),
        "sleep": endpoints.principal(run, run.params.namespace, "sleep"),
    }
    return [*run.load("request-authentication.yaml", **names), *run.load("figure-1.yaml", **names, **who)]


def wait(run: Run) -> None:
    """Wait until the gateway sends a browser to Keycloak, and the application's sidecar takes a token of the issuer."""
    if why_off(run):
        return
    for name in (GATEWAY, NAME, *(("redis", OAUTH2_PROXY) if uses_proxy(run) else ())):
        run.cluster.wait_rolled_out("Deployment", name, LOGIN, run.params.deadline)
    own = SESSION if uses_proxy(run) else "__Host-nonce"  # the beginning of a cookie's name: the other engine is gone
    polling.wait(
        "the login gateway to send a browser to Keycloak",
        lambda: over_http(f"{url(run)}/"),
        lambda reply: reply.status == 302 and own in reply.headers.get("set-cookie", ""),
        deadline=run.params.deadline,
    )
    wait_admitted(run)


def wait_admitted(run: Run) -> None:
    """Wait until the application takes a token of the issuer on new connections: an open one keeps its old policies."""
    token = tokens.user_token(run)
    polling.wait(
        "the application to take a token of the issuer",
        lambda: over_http(f"{url(run)}/headers", token=token).status,
        lambda status: status == 200,
        streak=2 * run.params.streak,  # the workers of the gateway have connections of their own
        deadline=run.params.deadline,
    )


def _filter(run: Run) -> list[dict]:
    return run.load("login/oauth2.yaml", **_values(run))


def _proxy(run: Run) -> list[dict]:
    values = _values(run)
    loaded = run.load(
        PROXYS,
        **values,
        jwks_uri=endpoints.jwks_uri(run),
        keycloak_at=endpoints.keycloak_host(run),
        login_refresh=REFRESH,
        config=hashlib.sha256(f"{values}{(MANIFESTS / PROXYS).read_text()}".encode()).hexdigest()[:16],
        gateway=endpoints.principal(run, LOGIN, GATEWAY),
        proxy_principal=endpoints.principal(run, LOGIN, OAUTH2_PROXY),
    )
    return authority.restart_on_ca_change(loaded, authority.authority(run))


def _values(run: Run) -> dict[str, str]:
    token_endpoint = f"{endpoints.inside_url(run)}/realms/{run.params.realm}/protocol/openid-connect/token"
    values = {"issuer": endpoints.issuer(run), "token_endpoint": token_endpoint}
    return {**values, "login_url": url(run), "login_host": host(run), "login_client": CLIENT}


def _resource(name: str, value: str) -> str:
    """Return a generic secret as Envoy reads it from a file (SDS).

    Source: envoy/extensions/transport_sockets/tls/v3/secret.proto.
    """
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    secret = {"@type": kind, "name": name, "generic_secret": {"secret": {"inline_string": value}}}
    return yaml.safe_dump({"resources": [secret]}, sort_keys=False)
