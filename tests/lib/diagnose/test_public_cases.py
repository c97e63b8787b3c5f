"""Questions from public threads about other people's meshes: `why` names the cause, and gives no advice that hurts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lib import diagnose
from lib.crypto.base64url import encoded
from lib.diagnose import collect
from lib.diagnose.request import Request
from lib.params import ROOT
from tests.support.recorded_mesh import Mesh, istiod, pod, service

FILES = sorted(Path(__file__).parent.glob("public_cases*.yml"))
CASES = [case for file in FILES for case in yaml.load(file.read_text(), yaml.CSafeLoader)]
ISSUER = "https://login.example/realms/shop"
SELECTS_WEB = {"selector": {"matchLabels": {"app": "web"}}}


def token(case):
    """The token of a case: `claims` and `token_header` change it, `token` its form."""
    form = case.get("token", "header")
    if form == "opaque":
        return "dZ3xQ9vB_opaque_access_token_7Yc"
    payload = {"iss": ISSUER, "sub": "s1", "azp": "shop", "exp": 4_000_000_000, **case.get("claims", {})}
    payload |= {"pad": "A" * (70_000 if form == "large" else 0)}
    header = {"alg": "RS256", "kid": "k1", **case.get("token_header", {})}
    made = [{key: value for key, value in one.items() if value is not None} for one in (header, payload)]
    parts = [*(encoded(json.dumps(one).encode()) for one in made), encoded(b"s" * 32)]
    if form == "padded":
        parts = [part + "=" * (-len(part) % 4) for part in parts]
    return ".".join(["eyJlbmMiOiJBMjU2R0NNIn0", *parts, "dGFn"] if form == "jwe" else parts)


def world(case):
    """The objects of a case: a workload, a caller with and one without a sidecar, a gateway, and what the case adds."""
    jwt = {"issuer": ISSUER, "jwksUri": "http://198.51.100.250/certs", "forwardOriginalToken": True}
    jwt = {key: value for key, value in {**jwt, **case.get("jwt", {})}.items() if value is not None}
    mesh = {"accessLogFile": "/dev/stdout", **case.get("mesh", {})}
    notes = {**case.get("annotations", {}), "istio.io/rev": case.get("revision", "default")}
    ambient = case.get("ambient", False)
    found = [
        {"kind": "Namespace", "apiVersion": "v1", "metadata": {
            "name": "shop", "labels": {"istio.io/dataplane-mode": "ambient"} if ambient else {}}},
        pod("web", "shop", {"app": "web"}, "10.0.0.8", not ambient, annotations=notes),
        pod("caller", "shop", {"app": "caller"}, "10.0.0.9", not ambient),
        pod("outsider", "istio-system", {"app": "outsider"}, "10.0.0.10", False),
        service("web", "shop", {"app": "web"}, 8000, 8080),
        {"kind": "RequestAuthentication", "metadata": {"name": "web", "namespace": "shop"},
         "spec": {**SELECTS_WEB, "jwtRules": [jwt]}},
        *istiod(mesh, case.get("revision", "")),
    ]  # fmt: skip
    labels = {"app": "istio-ingressgateway", "istio": "ingressgateway"}
    found += [pod("gateway", "istio-system", labels, "10.0.0.20", gateway=True),
              service("istio-ingressgateway", "istio-system", labels, 80, 8080, "198.51.100.1")]  # fmt: skip
    api = {"gateway.networking.k8s.io/gateway-name": "web-gw"}
    found += [pod("web-gw", "shop", api, "10.0.0.21", gateway=True),
              service("web-gw-istio", "shop", api, 80, 80, "198.51.100.2")]  # fmt: skip
    for one in found:
        if one["kind"] == "Service" and one["metadata"]["name"] == "web":
            one["metadata"]["labels"] = case.get("service_labels", {})
        if one["kind"] == "Pod" and one["metadata"]["name"] == "web-1" and case.get("unready"):
            one["status"]["conditions"] = []
    if own := case.get("gateway"):
        found += [pod(own["name"], own["namespace"], own["labels"], "10.0.0.22", gateway=True),
                  service(own["name"], own["namespace"], own["labels"], 443, 8443, own["balanced"])]  # fmt: skip
    found += [pod(one["name"], one["namespace"], one["labels"], "10.0.0.30") for one in case.get("pods", [])]
    if "rules" in case:
        rules = json.loads(json.dumps(case["rules"]).replace("ISSUER", ISSUER))
        found.append({"kind": "AuthorizationPolicy", "metadata": {"name": "web", "namespace": "shop"},
                      "spec": {**SELECTS_WEB, "rules": rules}})  # fmt: skip
    return [*found, *case.get("objects", [])]


def configuration(case):
    """Envoy's configuration of the JWT filter, as far as a case has one."""
    kind = case.get("dump", "held" if "held" in case else None)
    if kind is None:
        return None
    provider = {"issuer": case.get("jwt", {}).get("issuer", ISSUER)}
    if kind == "remote":
        provider["remote_jwks"] = {"http_uri": {"uri": "x"}}
    else:
        modulus = "0xObjM0UvS_o" if kind == "placeholder" else "AQAB"
        keys = {"keys": case.get("held", [{"kid": kind, "n": modulus}])}
        provider["local_jwks"] = {"inline_string": json.dumps(keys)}
    return {"x": {"@type": "type.googleapis.com/…JwtAuthentication", "providers": {"origins-0": provider}}}


def asked(case):
    """The mesh, the evidence and the token of a case."""
    request = case.get("request", {})
    where = case.get("token", "header")
    sent = None if where == "none" else token(case)
    headers = {name: "s=" + "x" * 70_000 if value == "COOKIE" else value
               for name, value in request.get("headers", {}).items()}  # fmt: skip
    url = request.get("url", "http://web.shop:8000/headers")
    if where == "cookie":
        headers["Cookie"] = f"theme=dark; session-token={sent}"
    if place := case.get("place"):
        headers[place] = sent
    if where == "query":
        url += f"?access_token={sent}"
    hops = case.get("hops", {"web": refusal(case)})
    readable = bool(case.get("mesh", {}).get("accessLogFile", True))
    answer = {"status": 403, "body": "RBAC: access denied", **case.get("answer", {})}
    mesh = Mesh(world(case), answer, hops, case.get("istiod_log", ()), configuration(case),
                case.get("json_log", False), readable)  # fmt: skip
    bearer = None if place or where in ("none", "cookie", "query") else sent
    asking = Request(url, bearer, request.get("host", ""),
                     request.get("method", "GET"), headers=headers)  # fmt: skip
    caller = "" if request.get("outside") else request.get("caller", "caller")
    names = case.get("dns", {})
    evidence = collect(mesh, asking, caller, lambda name: {names[name]} if name in names else set(), mesh.send, 0)
    return evidence, sent


def refusal(case):
    status = case.get("answer", {}).get("status", 403)
    return [status, "", "via_upstream", "127.0.0.6:8080"] if status == 200 else [
        status, "", "rbac_access_denied_matched_policy[none]"]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"].replace(" ", "-"))
def test_why_names_the_cause(case):
    evidence, sent = asked(case)
    if "published" in case:
        keys = [{"kid": kid} for kid in case["published"]]
        evidence = replace(evidence, keys=replace(evidence.keys, published=keys, fetch_error=""))
    found = diagnose.diagnose(evidence)
    print(found)
    assert found.cause == case["cause"], str(found)
    assert all(words in str(found) for words in case.get("says", [])), str(found)
    assert not any(words in str(found) for words in case.get("never", [])), str(found)
    assert sent is None or all(one not in str(found) for one in (sent, *sent.split(".")[-2:]))


def test_a_case_shows_each_row_of_what_why_sees_and_does_not_see():
    assert {case["page"] for case in CASES if "page" in case} == set(rows("sees")) | set(rows("does not see"))


def rows(heading):
    """The first cells of the table of docs/why.md with this heading."""
    table = (ROOT / "docs" / "why.md").read_text().partition(f"| `make why` {heading} |")[2].partition("\n\n")[0]
    return [line.split("|")[1].strip() for line in table.splitlines()[2:]]
