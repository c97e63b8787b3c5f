"""The hands of a person who follows the advice of `why` where it prints no command."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from lib.crypto import jwt
from lib.istio import installation, policies
from lib.istio.extension_providers import DENY_LIST
from lib.keycloak import representations
from lib.keycloak.admin import only, path
from lib.kubernetes import kubectl
from lib.labs import callback, changes, login, rules
from lib.labs.fault import Fault, good, nothing
from lib.labs.lab import APP, HOST, NAMESPACE, Lab, Object
from lib.login import application
from lib.login.stage import Stage
from lib.names import ISTIO_SYSTEM, KEYCLOAK, LOGIN
from lib.roles import people
from lib.steps import endpoints, gateway_tls, realm
from tests.support.runbook import KUBECTL, ROOT

Hand = Callable[[Lab, Fault, re.Match, ExitStack], Fault]


def shell(command: str) -> None:
    """Run a command as a person does who copies it."""
    environment = {"PATH": f"{KUBECTL.parent}:{os.environ['PATH']}", "KUBECONFIG": str(ROOT / ".kube" / "dev")}
    subprocess.run(["bash", "-c", command], env=environment, check=True, timeout=180)


# Keycloak's administration, the request, the runbook's own files


def good_token(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    return replace(asked, token=good)


def same(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    return asked


def log_in(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    return replace(asked, token=nothing, url=login.session, headers=login.cookies)


def audience_mapper(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    keycloak, name = endpoints.keycloak_admin(lab.run), lab.run.params.realm
    client = words["client"] or application.CLIENT
    made = keycloak.ensure_audience_mapper(name, client, representations.audience_mapper(words["audience"])).object
    if words["client"]:
        at = path(name, "clients", keycloak.get_client(name, client)["id"], "protocol-mappers", "models", made["id"])
        undo.callback(keycloak.call, "DELETE", at)
    return asked


def client_scope(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    keycloak, name = endpoints.keycloak_admin(lab.run), lab.run.params.realm
    scope = only(keycloak.get(path(name, "client-scopes")), "name", words["scope"])["id"]
    at = path(name, "clients", keycloak.get_client(name, words["client"])["id"], "default-client-scopes", scope)
    keycloak.call("PUT", at)
    undo.callback(keycloak.call, "DELETE", at)
    return asked


def role(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    keycloak, name = endpoints.keycloak_admin(lab.run), lab.run.params.realm
    keycloak.ensure_user_role(name, realm.VISITOR, words["role"])
    at = path(name, "users", keycloak.get_user(name, realm.VISITOR)["id"], "role-mappings", "realm")
    undo.callback(keycloak.call, "DELETE", at, [keycloak.get(path(name, "roles", words["role"]))])
    return asked


def redirect_uri(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    keycloak, name = login.logged_in(lab)
    known = keycloak.get_client(name, application.CLIENT)["redirectUris"]
    address = f"{application.url(lab.run)}{application.CALLBACK}"
    keycloak.ensure_client(name, {"clientId": application.CLIENT, "redirectUris": [*known, address]})
    return asked


def client_secret(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    def step_13() -> None:
        application.ensure_client(lab.run)
        application.ensure_secrets(lab.run)
        shell(kubectl.restart("deployment", application.GATEWAY, LOGIN))

    undo.callback(callback.healed, lab)
    undo.callback(step_13)
    step_13()
    return log_in(lab, asked, words, undo)


def fewer_mappers(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    keycloak, name = login.logged_in(lab)
    at = path(name, "clients", keycloak.get_client(name, application.CLIENT)["id"], "protocol-mappers", "models")
    keycloak.call("DELETE", at + path(only(keycloak.get(at), "name", "large")["id"]))
    return log_in(lab, asked, words, undo)


def login_objects(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    lab.run.apply(application.login_objects(lab.run))
    return log_in(lab, asked, words, undo)


def keycloaks_authority(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    rules = lab.cluster.items("networking.istio.io/v1", "DestinationRule", LOGIN)
    (name,) = {one["spec"]["trafficPolicy"]["tls"]["credentialName"] for one in rules
               if "credentialName" in one["spec"].get("trafficPolicy", {}).get("tls", {})}  # fmt: skip
    right = lab.cluster.get("v1", "Secret", "keycloak-ca", LOGIN)["data"]
    metadata = {"name": name, "namespace": LOGIN}
    lab.run.apply([{"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": right}])
    return log_in(lab, asked, words, undo)


def provider(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    shell(kubectl.merge("authorizationpolicy", "ask-nobody", LOGIN, {"spec": {"provider": {"name": DENY_LIST}}}))
    return asked


def start(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    home, name = words["service"].split("/")
    shell(kubectl.scale("deployment", name, home))
    return asked


def start_keycloak(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    shell(kubectl.scale("deployment", "keycloak", KEYCLOAK))
    shell(kubectl.restart("deployment", "istiod", ISTIO_SYSTEM))
    return asked


def gateway_labels(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    (gateway,) = gateway_tls.gateway(lab.run)
    labels = dict(one.split("=") for one in words["labels"].split(", "))
    lab.apply([{**gateway, "spec": {**gateway["spec"], "selector": labels}}])
    return asked


def right_gateway(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    lab.apply(gateway_tls.gateway(lab.run))
    return asked


def probe(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    shell(words["command"])
    lab.replace_workload({})
    return asked


def other_host(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    return replace(asked, host=words["host"])


def other_name(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    return replace(asked, url=lambda lab: f"https://{words['name']}/headers")


def right_url(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    return replace(asked, url=lambda lab: "", to=lambda lab: "", host=HOST)


def rule_changed(lab: Lab, change: Callable[[Object], object]) -> None:
    """Change the only rule of the lab's policy, as it is in the cluster."""
    live = lab.cluster.get(policies.API, policies.RULES, APP, NAMESPACE)
    change(live["spec"]["rules"][0])
    metadata = {"name": APP, "namespace": NAMESPACE}
    lab.apply([{"apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata, "spec": live["spec"]}])


def no_exclusion(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    rule_changed(lab, lambda rule: rule.pop("to")[0]["operation"][words["field"]])
    return asked


def values(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    rule_changed(lab, lambda rule: rule["when"][0].update(values=rule["when"][0].pop("notValues")))
    return asked


def address(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    rule_changed(lab, lambda rule: rule["from"][0]["source"]["remoteIpBlocks"].append(words["address"]))
    return asked


def header(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    return replace(asked, headers=lambda lab: {words["name"]: words["value"]})


def multivalued(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    claims = jwt.claims(asked.token(lab))
    return replace(asked, token=lambda lab: lab.signed(**claims | {"roles": claims["roles"].split(",")}))


def as_text(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    claims = jwt.claims(asked.token(lab))
    texts = {name: str(one).lower() for name, one in claims.items() if isinstance(one, bool)}
    return replace(asked, token=lambda lab: lab.signed(**claims | texts))


def cors(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    istios = {"corsPolicy": {"allowOrigins": [{"exact": rules.SITE}], "allowMethods": ["GET"]}}
    cors = {"allowOrigins": [rules.SITE], "allowMethods": ["GET"]}
    of_gateway_api = {"filters": [{"type": "CORS", "cors": cors}]}
    changes.route(**(istios if lab.run.params.gateway_api == installation.ISTIO else of_gateway_api))(lab)
    return asked


def right_route(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    lab.apply(lab.route())
    return asked


def right_rule(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    lab.set_jwt_rule()
    return asked


def another_rule(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    live = lab.cluster.get(policies.API, policies.REQUESTS, APP, NAMESPACE)["spec"]["jwtRules"]
    right = lab.policies()[0]
    lab.apply([{**right, "spec": {**right["spec"], "jwtRules": [*live, *right["spec"]["jwtRules"]]}}])
    return asked


def uri_of_keys(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    live = lab.cluster.get(policies.API, policies.REQUESTS, APP, NAMESPACE)["spec"]["jwtRules"][0]
    lab.set_jwt_rule(issuer=live["issuer"])
    return asked


def gateways_address(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    return replace(asked, url=lambda lab: "", to=lambda lab: endpoints.gateway_host(lab.run))


def known_client(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    return replace(asked, url=lambda lab: Stage(lab.run).authorization_url())


def administrator(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
    return replace(asked, token=lambda lab: people.token(lab.run, "admin"))


# Words of an advice, what the person does, and the function that does it. The first that fits counts.
HANDS: list[tuple[str, str, Hand]] = [
    (r"audience mapper for (?P<audience>\S+) to the (client (?P<client>\S+),|login's client)", "adds the mapper in "
     "Keycloak, fetches a new token", audience_mapper),
    (r"give the client (?P<client>\S+) the scope (?P<scope>\w+)", "adds the scope in Keycloak, fetches a new token",
     client_scope),
    (r"what adds (?P<role>\S+) to \[realm_access\]", "gives the role in Keycloak, fetches a new token", role),
    (r"to the client's Valid redirect URIs", "registers the address in Keycloak", redirect_uri),
    (r"run step 13 again", "runs step 13's functions, restarts the gateway, logs in", client_secret),
    (r"make the token smaller: fewer roles and", "sends a smaller token", good_token),
    (r"make the token smaller", "deletes the mapper in Keycloak, logs in", fewer_mappers),
    (r"redirect_path_matcher|allowed_redirect_domains|token_endpoint name", "corrects the filter, logs in",
     login_objects),
    (r"give the login the authority", "writes Keycloak's authority into that Secret, logs in", keycloaks_authority),
    (r"correct the policy's provider", "names a provider of the mesh, which decides again", provider),
    (r"^start Keycloak, then restart istiod", "starts both", start_keycloak),
    (r"^start (?P<service>[\w-]+/[\w-]+);", "starts it", start),
    (r"into the Gateway's selector: (?P<labels>.+)", "writes these labels", gateway_labels),
    (r"correct the (Gateway's credentialName|listener's certificateRefs)", "corrects it", right_gateway),
    (r"^give the Gateway the class of a controller that runs", "gives it the right class", right_gateway),
    (r"^read its events: (?P<command>kubectl .+)", "reads them, corrects the probe's path", probe),
    (r"\(HOST=(?P<host>[\w.-]+)\)", "asks for that host", other_host),
    (r"use a name of (?P<name>[\w.-]+) in the URL", "asks by that name", other_name),
    (r"use a name in the certificate|correct the name;", "asks by the right name", right_url),
    (r"^change (?P<field>not\w+) in ", "takes the exclusion out of the rule", no_exclusion),
    (r"write values instead of notValues", "writes it", values),
    (r"else add (?P<address>[\d.]+), or its network", "adds it", address),
    (r"^send the header (?P<name>\S+): (?P<value>\S+), or", "sends it", header),
    (r"make the mapper multivalued", "lets the issuer write a list, fetches a new token", multivalued),
    (r"let the issuer write it as text", "lets the issuer write text, fetches a new token", as_text),
    (r"^answer preflights before the policy: corsPolicy", "writes the filter CORS", cors),
    (r"^correct the (destination|backend's name)|a redirect, directResponse or fault is in it", "corrects the route",
     right_route),
    (r"^name jwksUri instead of jwks|^correct what the message names", "writes Keycloak's jwksUri", right_rule),
    (r"^if these tokens may pass, add a rule", "adds that rule", another_rule),
    (r"^add jwksUri to the rule", "adds it", uri_of_keys),
    (r"^name the gateway's address: TO=", "asks at the gateway", gateways_address),
    (r"^compare client_id and the realm", "asks with the login's own client", known_client),
    (r"^read error_description in the redirect: often PKCE", "asks with PKCE", known_client),
    (r"^send a token that has what the rule wants", "sends an administrator's token", administrator),
    (r"check the Service's ports|^check the URL, the headers' characters", "asks by the right name", right_url),
    (r"^log in with a browser", "logs in", log_in),
    (r"^call the Service's name", "asks by the Service's name", right_url),
    (r"fetch a new token|[Ss]end (the access|a bearer token|the token)|let a program send a token|without nbf|NTP",
     "sends a good token", good_token),
    (r"log in again|open the page again|allow cookies|the person may have refused", "logs in again", log_in),
    (r"^ask again in", "asks again", same),
]  # fmt: skip
