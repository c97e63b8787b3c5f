"""Follow the advice of `why`: run the command that it prints, or else do what a person does, as HANDS has it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from lib.diagnose.diagnosis import Diagnosis
from lib.istio.extension_providers import DENY_LIST
from lib.keycloak import representations
from lib.keycloak.admin import only, path
from lib.kubernetes import kubectl
from lib.labs import callback, login
from lib.labs.faults import Fault, good, nothing
from lib.labs.lab import HOST, NO_SIDECAR, Lab, key
from lib.login import application
from lib.names import ISTIO_SYSTEM, KEYCLOAK, LOGIN
from lib.polling import until
from lib.steps import endpoints, gateway_tls, realm
from tests.support.runbook import KUBECTL, ROOT

FOLLOWED = 90  # seconds until the proxies have followed an advice; some of them restart a part
LATE = "policy-just-applied"  # the cause as long as the proxies do not follow
STEADY = 5  # seconds after which a cause is not one of a moment, when one proxy has followed and another has not
STEPS = 4  # at most: an advice may uncover the next cause
# A later apply of the runbook does not remove a label that another program added
HOME, OUTSIDER = NO_SIDECAR.split("/")
LABEL = {"sidecar.istio.io/inject": None}
NO_LABEL = kubectl.merge("deployment", OUTSIDER, HOME, {"spec": {"template": {"metadata": {"labels": LABEL}}}})
Hand = Callable[[Lab, Fault, re.Match, ExitStack], Fault]


def follow(lab: Lab, asked: Fault, found: Diagnosis, undo: ExitStack) -> tuple[str, Diagnosis]:
    """Follow each advice until the request is healed; return what was done, and the last diagnosis.

    Args:
        lab: The lab, with the fault in it.
        asked: The fault, whose request is asked again.
        found: What `why` said.
        undo: Takes what must be undone at last, besides the fault.
    """
    done: list[str] = []
    while not healed(asked, found) and len(done) < STEPS and can_follow(found):
        how, asked = step(lab, asked, found, undo)
        done.append(how)
        found = until(partial(asked.ask, lab), settled(asked, found.cause), deadline=FOLLOWED).value or found
        print(how, found, sep="\n")
    return "; then ".join(dict.fromkeys(done)), found


def settled(asked: Fault, before: str) -> Callable[[Diagnosis], bool]:
    """Return the judgement whether a request is healed, or has another cause for some time, whose advice is next."""
    cause, since = before, 0.0

    def judge(found: Diagnosis) -> bool:
        nonlocal cause, since
        if found.cause != cause:
            cause, since = found.cause, time.monotonic()
        lasts = cause not in (before, LATE) and time.monotonic() - since > STEADY
        return healed(asked, found) or (lasts and can_follow(found))

    return judge


def healed(fault: Fault, found: Diagnosis) -> bool:
    """Return whether a fault's request gets its right answer: one that passed by mistake must now need a token."""
    if fault.prediction == "200":
        return found.cause in ("no-token", "allowed")
    if fault.cause == "unknown-provider":
        return found.cause == "external-authorizer"  # it decides again
    return ": 200" in found.refused


def can_follow(found: Diagnosis) -> bool:
    return bool(found.command or any(re.search(words, found.change) for words, _, _ in HANDS))


def step(lab: Lab, asked: Fault, found: Diagnosis, undo: ExitStack) -> tuple[str, Fault]:
    """Follow one advice; return what was done, and the request that comes next."""
    if not found.command:
        words, done, hand = next(one for one in HANDS if re.search(one[0], found.change))
        return done, hand(lab, asked, re.search(words, found.change), undo)
    if asked.caller == NO_SIDECAR:
        undo.callback(shell, f"{NO_LABEL} && {kubectl.rolled_out('deployment', OUTSIDER, HOME)}")
    shell(found.command)
    lab.changes |= {key(one): one for one in lab.policies()}  # heal must look at the lab's objects
    if found.command.startswith("echo "):
        manifest = json.loads(shlex.split(found.command)[1])
        lab.changes[key(manifest)] = manifest
    return "the command", asked


def shell(command: str) -> None:
    """Run a command as a person does who copies it."""
    environment = {"PATH": f"{KUBECTL.parent}:{os.environ['PATH']}", "KUBECONFIG": str(ROOT / ".kube" / "dev")}
    subprocess.run(["bash", "-c", command], env=environment, check=True, timeout=180)


# The hands of a person: Keycloak's administration, the request, the runbook's own files


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


def credential(lab: Lab, asked: Fault, words: re.Match, undo: ExitStack) -> Fault:
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


# Words of an advice, what the person does, and the function that does it. The first that fits counts.
HANDS: list[tuple[str, str, Hand]] = [
    (r"audience mapper for (?P<audience>\S+) to the (client (?P<client>\S+),|login's client)", "adds the mapper in "
     "Keycloak, fetches a new token", audience_mapper),
    (r"give the client (?P<client>\S+) the scope (?P<scope>\w+)", "adds the scope in Keycloak, fetches a new token",
     client_scope),
    (r"what adds (?P<role>\S+) to \[realm_access\]", "gives the role in Keycloak, fetches a new token", role),
    (r"to the client's Valid redirect URIs", "registers the address in Keycloak", redirect_uri),
    (r"run step 13 again", "runs step 13's functions, restarts the gateway, logs in", client_secret),
    (r"make the token smaller", "deletes the mapper in Keycloak, logs in", fewer_mappers),
    (r"redirect_path_matcher|allowed_redirect_domains|token_endpoint name", "corrects the filter, logs in",
     login_objects),
    (r"give the login the authority", "writes Keycloak's authority into that Secret, logs in", keycloaks_authority),
    (r"correct the policy's provider", "names a provider of the mesh, which decides again", provider),
    (r"^start Keycloak, then restart istiod", "starts both", start_keycloak),
    (r"^start (?P<service>[\w-]+/[\w-]+);", "starts it", start),
    (r"into the Gateway's selector: (?P<labels>.+)", "writes these labels", gateway_labels),
    (r"correct the Gateway's credentialName", "corrects it", credential),
    (r"^read its events: (?P<command>kubectl .+)", "reads them, corrects the probe's path", probe),
    (r"\(HOST=(?P<host>[\w.-]+)\)", "asks for that host", other_host),
    (r"use a name of (?P<name>[\w.-]+) in the URL", "asks by that name", other_name),
    (r"use a name in the certificate|correct the name;", "asks by the right name", right_url),
    (r"fetch a new token|[Ss]end (the access|a bearer token|the token)|let a program send a token|without nbf|NTP",
     "sends a good token", good_token),
    (r"log in again|open the page again|allow cookies|the person may have refused", "logs in again", log_in),
    (r"^ask again in", "asks again", same),
]  # fmt: skip
