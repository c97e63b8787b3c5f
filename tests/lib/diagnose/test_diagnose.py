"""Why a request was refused: the policies' own logic, the ways in, and the cause that the evidence shows."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import diagnose
from lib.diagnose import evidence, jwt
from lib.diagnose.evidence import Evidence, Token
from lib.diagnose.jwks import Keys
from lib.diagnose.pods import Workload
from lib.http_client import Answer
from lib.istio import evaluator, installation, matching, policies, routes
from lib.istio.access_log import Hop
from lib.istio.evaluator import Call, Miss
from lib.params import ROOT
from tests.support.faults import EVERY
from tests.support.tiny import TOKEN

ISSUER = "http://k/realms/istio"
US = {"iss": "i", "sub": "s"}
GATEWAY = Workload("istio-system", {"istio": "ingressgateway"}, "gw", "gw-1", True, True)
APP = Workload("foo", {"app": "httpbin"}, "httpbin", "httpbin-1", True, True)
FRIEND = Workload("foo", {"app": "sleep"}, "sleep", "sleep-1", True, True)
NAKED = replace(FRIEND, proxied=False)
GOOD = Token({"alg": "RS256", "kid": "k1"}, {"iss": ISSUER, "sub": "s", "aud": "istio", "azp": "istio", "exp": 2000})
SERVICE = {
    "metadata": {"name": "httpbin", "namespace": "foo"},
    "spec": {"selector": {"app": "httpbin"}, "ports": [{"name": "http", "port": 8000, "targetPort": 8080}]},
}
OWN = {"metadata": {"namespace": "istio-ingress", "name": "own"}, "spec": {"servers": []}}


def policy(kind="AuthorizationPolicy", name="httpbin", home="foo", created="1970-01-01T00:00:00Z", **spec):
    metadata = {"name": name, "namespace": home, "creationTimestamp": created}
    return {"kind": kind, "metadata": metadata, "spec": spec}


def allow(*rules, **more):
    return policy(selector={"matchLabels": {"app": "httpbin"}}, rules=list(rules), **more)


def source(**fields):
    return {"from": [{"source": fields}]}


def to(**fields):
    return {"to": [{"operation": fields}]}


def when(key, **values):
    return {"when": [{"key": key, **values}]}


JWT_RULE = {"issuer": ISSUER, "audiences": ["istio"], "jwksUri": "http://k/certs", "forwardOriginalToken": True}
AUTHENTICATION = policy("RequestAuthentication", selector={"matchLabels": {"app": "httpbin"}}, jwtRules=[JWT_RULE])
EDGE = policy("RequestAuthentication", "edge", "istio-system", jwtRules=[{"issuer": ISSUER}])
STRICT = policy("PeerAuthentication", "default", "istio-system", mtls={"mode": "STRICT"})
USERS = source(requestPrincipals=[f"{ISSUER}/*"])
VIA = Hop("gateway", 403, "", "via_upstream", "", "10.0.0.1:8080")


def seen(status=403, body="RBAC: access denied", token=GOOD, rules=(), **more):
    """Return the evidence of a user's request through the gateway, refused by httpbin's sidecar."""
    about = dict(
        url="http://gw/headers", host="gw", path="/headers", method="GET", answer=Answer(status, body, 1.0, {}, body),
        token=token, gateway=GATEWAY, workload=APP, service=SERVICE, port=SERVICE["spec"]["ports"][0], gateway_hop=VIA,
        sidecar_hop=Hop("sidecar", status, "", "rbac_access_denied_matched_policy[none]", "", ""),
        policies=[AUTHENTICATION, STRICT, *rules], gateways=[OWN], now=1000.0,
    )  # fmt: skip
    return Evidence(**{**about, **more})


def cause(one: Evidence) -> str:
    return diagnose.diagnose(one).cause


# Policies


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [("a", "a", True), ("a*", "ab", True), ("*b", "ab", True), ("*", "x", True), ("*", "", False), ("a", "ab", False)],
)
def test_a_string_of_a_policy(pattern, value, fits):
    assert matching.text(pattern, value) is fits


@pytest.mark.parametrize(
    ("rule", "call", "allowed"),
    [
        (source(principals=["td/ns/foo/sa/sleep"]), Call(principal="td/ns/foo/sa/sleep"), True),
        (source(principals=["*"]), Call(), False),
        (source(namespaces=["foo"]), Call(principal="td/ns/foo/sa/x"), True),
        (source(notNamespaces=["foo"]), Call(principal="td/ns/foo/sa/x"), False),
        (source(requestPrincipals=["i/*"]), Call(claims=US), True),
        (source(requestPrincipals=["http://k/realms/istio*"]), Call(claims={"iss": ISSUER, "sub": "s"}), False),
        (source(requestPrincipals=[f"{ISSUER}/*"]), Call(claims={"iss": ISSUER, "sub": "s"}), True),
        (source(notRequestPrincipals=["*"]), Call(), True),
        (to(ports=["8080"]), Call(port="8080"), True),
        (to(ports=["8000"]), Call(port="8080"), False),
        (to(paths=["/a/{*}/c"]), Call(path="/a/b/c"), True),
        (to(paths=["/a/{*}/c"]), Call(path="/a/b/b/c"), False),
        (to(paths=["/a/{**}"]), Call(path="/a/b/b/c"), True),
        (to(paths=["/a"]), Call(path="/a?q=1"), True),
        (to(hosts=["A.example"]), Call(host="a.EXAMPLE"), True),
        (to(notMethods=["GET"]), Call(method="GET"), False),
        (when("request.auth.claims[r][roles]", values=["x"]), Call(claims={"r": {"roles": ["x"]}}), True),
        (when("request.auth.claims[r][roles]", values=["x"]), Call(claims={"r": 1}), False),
        (when("request.headers[X-A]", notValues=["1"]), Call(headers={"x-a": "1"}), False),
        (when("request.auth.audiences", values=["a"]), Call(claims={"aud": ["b", "a"]}), True),
        (when("connection.sni", values=["a"]), Call(), None),
        ({}, Call(), True),
    ],
)  # fmt: skip
def test_a_rule(rule, call, allowed):
    assert evaluator.decide([allow(rule)], call).allowed is allowed


def test_the_nearest_rule_is_reported_with_the_fields_that_do_not_match():
    far, near = source(principals=["a"]) | to(paths=["/x"]), source(principals=["a"])
    found = evaluator.decide([allow(far, near)], Call(principal="b", path="/y"))
    assert found.misses == (Miss("principals", "a", "b"),) and found.policy == "foo/httpbin"


FIELDS = st.fixed_dictionaries(
    {}, optional={"principals": st.lists(st.sampled_from(["*", "a/b/ns/x/sa/y", "a*"]), min_size=1),
                  "requestPrincipals": st.lists(st.sampled_from(["*", "i/*"]), min_size=1)}
)  # fmt: skip
RULES = st.lists(st.builds(lambda fields: source(**fields), FIELDS), max_size=3)
CALLS = st.builds(Call, st.sampled_from(["", "a/b/ns/x/sa/y"]), st.sampled_from([{}, US]))


@given(RULES, RULES, CALLS)
def test_one_more_rule_that_allows_never_refuses_and_deny_always_wins(rules, more, call):
    if rules and evaluator.decide([allow(*rules)], call).allowed:
        assert evaluator.decide([allow(*rules, *more)], call).allowed
    denied = evaluator.decide([allow(*rules), allow({}, action="DENY")], call)
    assert not denied.allowed and denied.action == "DENY"
    assert evaluator.decide([], call).allowed and not evaluator.decide([allow()], call).allowed


def test_the_nearest_peer_authentication_counts():
    home = policy("PeerAuthentication", "default", mtls={"mode": "PERMISSIVE"})
    own = policy("PeerAuthentication", "own", selector={"matchLabels": {"app": "httpbin"}}, mtls={"mode": "UNSET"},
                 portLevelMtls={"8080": {"mode": "DISABLE"}})  # fmt: skip
    mode = lambda *found, port="": policies.mode(found, "foo", APP.labels, port)  # noqa: E731
    assert mode() == ("PERMISSIVE", "") and mode(STRICT) == ("STRICT", "istio-system/default")
    assert mode(STRICT, home) == ("PERMISSIVE", "foo/default")
    assert mode(STRICT, own, port="8080") == ("DISABLE", "foo/own")
    assert mode(STRICT, own, port="9") == ("STRICT", "istio-system/default")


# Routes


@pytest.mark.parametrize("host", ["httpbin", "httpbin.foo", "httpbin.foo.svc", "httpbin.foo.svc.cluster.local"])
def test_a_service_by_each_of_its_names(host):
    assert routes.by_host([SERVICE], host, "foo") is SERVICE
    assert routes.by_host([SERVICE], host.replace("httpbin", "other"), "foo") is None


def virtual(name, *hosts, **rule):
    spec = {"hosts": hosts, "gateways": ["g"], "http": [{"route": [{"destination": {"host": name}}], **rule}]}
    return {"metadata": {"name": name, "namespace": "foo"}, "spec": spec}


def test_only_the_most_exact_host_counts():
    gateway = {"metadata": {"name": "g", "namespace": "foo"}, "spec": {"servers": [{"hosts": ["*.example"]}]}}
    found = [virtual("any", "*"), virtual("wide", "*.example"), virtual("own", "a.example")]
    names = lambda host: [one["metadata"]["name"] for one in routes.routes(found, [gateway], host)]  # noqa: E731
    assert (names("a.example"), names("b.example"), names("c")) == (["own"], ["wide"], ["any"])
    assert routes.serves([gateway], "a.example") and not routes.serves([gateway], "a.other")


def test_a_route_by_path_and_what_it_removes():
    removing = {"match": [{"uri": {"prefix": "/a"}}], "headers": {"request": {"remove": ["Authorization"]}}}
    found = routes.route(virtual("own", "*", **removing), "/a/b")
    assert found.destination == "own" and found.removed == ("authorization",)
    assert routes.route(virtual("own", "*", **removing), "/b") is None


@pytest.mark.parametrize(
    ("match", "last"),
    [([], True), ([{"uri": {"prefix": "/"}}], True), ([{"uri": {"exact": "/oauth2/callback"}}], False)],
)
def test_a_route_for_all_requests_stands_behind_the_others_as_istio_puts_it(match, last):
    assert routes.route(virtual("own", "*", match=match), "/oauth2/callback?code=x").catch_all is last


@pytest.mark.parametrize(
    ("port", "protocol"),
    [({"name": "http-web"}, "http"), ({"name": "tcp"}, "tcp"), ({"name": "web"}, ""), ({}, ""),
     ({"name": "tcp", "appProtocol": "kubernetes.io/h2c"}, ""), ({"name": "x", "appProtocol": "grpc"}, "grpc")],
)  # fmt: skip
def test_the_protocol_of_a_port(port, protocol):
    assert routes.protocol(port) == protocol


# Tokens


@pytest.mark.parametrize("sent", ["null", "", "0paque-s3cret", "s3.cr.et"])
def test_a_value_that_is_no_token_is_described_and_never_shown(sent):
    token = evidence.describe_token(sent)
    assert token.problem and not token.claims
    found = diagnose.diagnose(seen(401, jwt.JWT["J1"], token))
    assert found.cause == "not-a-jwt" and (sent in ("", "null") or sent not in str(found))


def test_a_token_is_shown_by_its_claims_alone():
    assert evidence.describe_token(None) is None
    token = evidence.describe_token(TOKEN)
    assert not token.problem and TOKEN.rsplit(".", 1)[1] not in repr(token)


@pytest.mark.parametrize(
    ("wanted", "issuer", "part"),
    [
        (ISSUER, f"{ISSUER}/", "slash"),
        (ISSUER, ISSUER.replace("http", "https"), "scheme (token: https, policy: http)"),
        (ISSUER, ISSUER.replace("k/", "k:8080/"), "port (token: 8080, policy: none)"),
        (ISSUER, ISSUER.replace("//k", "//other"), "host (token: other, policy: k)"),
        (ISSUER, ISSUER.replace("/realms", "/auth/realms"), "/auth"),
        (ISSUER, ISSUER.replace("istio", "other"), "realm or path"),
    ],
)
def test_the_part_in_which_two_issuers_differ(wanted, issuer, part):
    token = Token(GOOD.header, {**GOOD.claims, "iss": issuer})
    found = diagnose.diagnose(seen(401, "Jwt issuer is not configured", token))
    assert found.cause == "issuer-mismatch" and part in found.why


def with_claims(**claims):
    return Token(GOOD.header, {key: value for key, value in {**GOOD.claims, **claims}.items() if value is not None})


K1, K2 = {"kid": "k1", "n": "1"}, {"kid": "k2", "n": "2"}


@pytest.mark.parametrize(
    ("status", "body", "token", "keys", "name"),
    [
        (401, "Jwt is expired", with_claims(exp=900), Keys(), "expired"),
        (401, "Jwt not yet valid", with_claims(nbf=1500, iat=990), Keys(), "not-yet-valid"),
        (401, "Jwt not yet valid", with_claims(nbf=1500, iat=1500), Keys(), "clock"),
        (403, "Audiences in Jwt are not allowed", with_claims(aud=None), Keys(), "audience"),
        (403, "Audiences in Jwt are not allowed", None, Keys(), "audience"),
        (403, "Audiences in Jwt are not allowed", with_claims(typ="Refresh"), Keys(), "wrong-token-type"),
        (401, "Jwt header [alg] is not supported", Token({"alg": "none"}, GOOD.claims), Keys(), "algorithm"),
        (401, "Jwt verification fails", GOOD, Keys("u", [K1], [K1], "", "the issuer's"), "signature"),
        (401, jwt.JWT["J17"], GOOD, Keys("u", [K2], [K1, K2], "", "x"), "keys-stale"),
        (401, jwt.JWT["J17"], GOOD, Keys("u", [K2], [K2], "", "x"), "foreign-key"),
        (401, "Jwt verification fails", GOOD, Keys("u", [K2], [K1], "", "placeholder"), "keys-too-early"),
        (401, "Jwt verification fails", GOOD, Keys("u", [K2], None, "got 404", "placeholder"), "realm-missing"),
        (401, "Jwt verification fails", GOOD, Keys("u", [K2], None, "refused", "placeholder"), "keys-unreachable"),
        (401, "Jwt verification fails", GOOD, Keys("u", [K2], None, "no pod runs behind the Service k", "placeholder",
                                                   "", 0), "keycloak-down"),
        (401, "Jwt verification fails", GOOD, Keys("u", [K2], None, "", "placeholder", "x509: unknown authority"),
         "keys-untrusted"),
        (401, "Jwks remote fetch is failed", GOOD, Keys(), "keys-unreachable"),
    ],
)  # fmt: skip
def test_causes_in_the_token(status, body, token, keys, name):
    assert cause(seen(status, body, token, keys=keys)) == name


@pytest.mark.parametrize(
    ("since", "changed", "name"),
    [
        (990.0, "1970-01-01T00:16:00Z", "policy-just-applied"),
        (990.0, "1970-01-01T00:16:35Z", "keys-too-early"),  # this istiod has already fetched them for the policy
        (900.0, "1970-01-01T00:14:00Z", "keys-too-early"),
    ],
)
def test_a_placeholder_of_before_istiods_restart_is_not_blamed_on_the_new_istiod(since, changed, name):
    keys = Keys("u", [K2], [K1], "", "placeholder")
    late = seen(401, "Jwt verification fails", rules=[allow({}, created=changed)], keys=keys, istiod_since=since)
    assert cause(late) == name


def test_an_audience_missing_in_a_token_that_the_login_adds_is_sought_at_the_logins_client():
    found = diagnose.diagnose(seen(403, "Audiences in Jwt are not allowed", None))
    assert (
        found.why == "the token that the login adds to the request lacks the audience that the policy requires, istio"
    )
    assert "audience mapper for istio to the login's client" in found.change


def test_every_message_of_envoys_jwt_filter_has_a_cause():
    for code, words in jwt.JWT.items():
        if code != "J19":  # Istio always lets a missing token pass there
            found = diagnose.diagnose(
                seen(403 if code == "J16" else 401, f"{words}.", keys=Keys("u", [K1], [K1], "", "x"))
            )
            assert found.cause not in ("unexplained", "application"), code


# Rules


@pytest.mark.parametrize(
    ("token", "rules", "more", "name"),
    [
        (None, [allow(USERS)], {}, "no-token"),
        (with_claims(sub=None), [allow(USERS)], {}, "no-subject"),
        (GOOD, [allow()], {}, "deny-all"),
        (GOOD, [allow(USERS | to(ports=["8000"]))], {}, "service-port"),
        (GOOD, [allow(USERS | to(paths=["/x"]))], {}, "path-not-allowed"),
        (GOOD, [allow(USERS | to(methods=["POST"]))], {}, "method-not-allowed"),
        (GOOD, [allow(USERS | to(hosts=["x"]))], {}, "host-not-allowed"),
        (GOOD, [allow(source(principals=["a"], requestPrincipals=["*"]))], {}, "gateway-principal"),
        (GOOD, [allow(source(requestPrincipals=["http://other/*"]))], {}, "issuer-not-in-rule"),
        (GOOD, [allow(source(requestPrincipals=[f"{ISSUER}*"]))], {}, "principal-pattern"),
        (GOOD, [allow(when("request.auth.claims[scope]", values=["x"]))], {}, "claim-missing"),
        (GOOD, [allow(when("request.auth.claims[typ]", values=["x"]))], {}, "wrong-token-type"),
        (with_claims(groups=["/staff"]), [allow(when("request.auth.claims[groups]", values=["staff"]))], {},
         "group-slash"),
        (with_claims(r={"roles": ["editor"]}), [allow(when("request.auth.claims[roles]", values=["editor"]))], {},
         "claim-path"),
        (GOOD, [allow(source(notPrincipals=["*"]))], {}, "excluded"),
        (GOOD, [allow({}, action="DENY")], {"sidecar_hop": None}, "denied"),
        (GOOD, [allow({}, action="DENY", created="1970-01-01T00:16:35Z")], {}, "policy-just-applied"),
        (GOOD, [allow(USERS)], {"policies": [allow(USERS), STRICT]}, "no-request-authentication"),
        (GOOD, [allow(USERS)], {"route": routes.Route("foo/r", "httpbin", 8000, "foo", ("authorization",))},
         "token-stripped"),
        (GOOD, [allow(USERS), EDGE], {}, "token-stripped"),
        (None, [allow(source(principals=["a"]))], {"gateway": None, "gateway_hop": None, "caller": FRIEND},
         "caller-not-listed"),
        (None, [allow(source(principals=["a"]))], {"gateway": None, "gateway_hop": None, "caller": NAKED},
         "permissive"),
        (GOOD, [allow({}, created="1970-01-01T00:16:35Z")], {}, "policy-just-applied"),
        (GOOD, [allow({})], {"istiod_ready": False}, "istiod-down"),
        (GOOD, [allow({})], {}, "unexplained"),
    ],
)  # fmt: skip
def test_causes_in_the_rules(token, rules, more, name):
    assert cause(seen(token=token, rules=rules, **more)) == name


def test_the_policy_that_envoy_names_is_reported():
    hop = Hop("sidecar", 403, "", "rbac_access_denied_matched_policy[ns[foo]-policy[no]-rule[2]]", "", "")
    named = policy(name="no", action="DENY", rules=[{}, {}, {}])
    found = diagnose.diagnose(seen(rules=[named], sidecar_hop=hop))
    assert found.cause == "denied" and "foo/no" in found.why and "rule 2" in found.why
    gone = diagnose.diagnose(seen(rules=[allow({}, created="1970-01-01T00:16:35Z")], sidecar_hop=hop))
    assert gone.cause == "policy-just-applied" and "there is no such policy now" in gone.why


def test_the_gateways_own_refusal_is_judged_by_its_own_policies():
    edge = policy(name="edge", home="istio-system", selector={"matchLabels": GATEWAY.labels}, rules=[USERS])
    hop = Hop("gateway", 403, "", "rbac_access_denied_matched_policy[none]", "", "")
    found = diagnose.diagnose(seen(token=None, rules=[edge], gateway_hop=hop, sidecar_hop=None))
    assert found.cause == "no-token" and found.refused.startswith("the gateway istio-system/ingressgateway")


def test_a_missing_token_that_is_challenged_has_the_same_cause():
    usual, challenged = (diagnose.diagnose(seen(status, token=None, rules=[allow(USERS)])) for status in (403, 401))
    assert (usual.cause, challenged.cause) == ("no-token", "no-token")
    assert "403" in usual.change and "403" not in challenged.change


# On the way


def none(reason, **more):
    return seen(0, reason, answer=Answer(0, reason, 1.0), gateway_hop=None, sidecar_hop=None, **more)


NOT_FOUND = Hop("gateway", 404, "NR", "route_not_found", "", "")
TCP = {"name": "tcp-web", "port": 8000, "targetPort": 8080}
INSIDE = {"gateway": None, "caller": NAKED, "from_inside": True}


@pytest.mark.parametrize(
    ("one", "name"),
    [
        (none("name not found"), "name"),
        (none("refused"), "nothing-listens"),
        (none("refused", gateways=[]), "gateway-selector"),
        (none("timeout"), "timeout"),
        (none("connection reset", **INSIDE), "plain-text"),
        (none("connection reset", **{**INSIDE, "caller": FRIEND}), "no-answer"),
        (none("connection reset", **INSIDE, port=TCP, rules=[allow(USERS)]), "port-not-http"),
        (seen(404, "", gateway_hop=NOT_FOUND, sidecar_hop=None, virtuals=[virtual("v", "gw")]), "path-not-routed"),
        (seen(404, "", gateway_hop=NOT_FOUND, sidecar_hop=None), "host-not-matched"),
        (seen(404, "", gateway_hop=NOT_FOUND, sidecar_hop=None, gateways=[]), "gateway-selector"),
        (seen(503, "no healthy upstream", sidecar_hop=None, workload=None, gateway_hop=None), "no-pods"),
        (seen(503, "x", sidecar_hop=None, gateway_hop=None, workload=replace(APP, ready=False)), "not-ready"),
        (seen(503, "x", sidecar_hop=None, gateway_hop=None, workload=replace(
            APP, ready=False, problem="Readiness probe failed: Get: EOF", rewrites_probes=False)), "probe-refused"),
        (seen(503, "x", sidecar_hop=None, gateway_hop=None, workload=replace(
            APP, ready=False, problem="Startup probe failed: Get: EOF", rewrites_probes=False)), "probe-refused"),
        (seen(503, "x", sidecar_hop=None, gateway_hop=None, workload=replace(APP, ready=False, rewrites_probes=False,
            problem='Startup probe failed: Get "http://10.0.0.8:15021/healthz/ready": refused')), "not-ready"),
        (seen(503, "x", sidecar_hop=None, gateway_hop=None, destination_rule={
            **policy("DestinationRule", "plain"), "spec": {"trafficPolicy": {"tls": {"mode": "DISABLE"}}}}),
         "destination-rule"),
        (seen(503, "x", sidecar_hop=None, gateway_hop=None, workload=replace(APP, proxied=False), destination_rule={
            **policy("DestinationRule", "mutual"), "spec": {"trafficPolicy": {"tls": {"mode": "ISTIO_MUTUAL"}}}}),
         "sidecar-missing"),
        (seen(503, "x", sidecar_hop=None, gateway_hop=None, port=TCP, rules=[allow(USERS)]), "port-not-http"),
        (seen(503, "x", sidecar_hop=None, gateway_hop=None), "upstream"),
    ],
)  # fmt: skip
def test_causes_on_the_way(one, name):
    assert cause(one) == name


# Passed

THROUGH = Hop("sidecar", 200, "", "via_upstream", "", "127.0.0.6:8080")


def passed(*rules, **more):
    return seen(200, "", rules=rules, sidecar_hop=THROUGH, **more)


@pytest.mark.parametrize(
    ("one", "name"),
    [
        (passed(allow(USERS)), "allowed"),
        (passed(allow(USERS), rejected="invalid local jwks"), "config-rejected"),
        (passed(), "nothing-demanded"),
        (passed(policies=[STRICT]), "nothing-demanded"),
        (passed(policy(selector={"matchLabels": {"app": "htpbin"}}, rules=[USERS])), "selector"),
        (passed(policy(home="bar", selector={"matchLabels": {"app": "httpbin"}}, rules=[USERS])), "wrong-namespace"),
        (passed(allow(), istiod_ready=False), "istiod-down"),
        (passed(workload=replace(APP, proxied=False)), "sidecar-missing"),
        (passed(allow({}), **INSIDE), "permissive"),
    ],
)
def test_causes_of_a_request_that_passes(one, name):
    assert cause(one) == name


def test_a_policy_of_another_workload_is_not_taken_for_a_typing_error():
    other = policy(name="other", selector={"matchLabels": {"app": "httpbin-1"}}, rules=[USERS])
    assert cause(passed(other)) == "selector"
    pod = {"metadata": {"name": "x", "namespace": "foo", "labels": {"app": "httpbin-1"}}}
    assert cause(passed(other, workloads=[pod])) == "nothing-demanded"
    away = policy(name="away", home="bar", selector={"matchLabels": {"app": "httpbin"}}, rules=[USERS])
    twin = {"metadata": {"name": "y", "namespace": "bar", "labels": {"app": "httpbin"}}}
    assert cause(passed(away)) == "wrong-namespace"
    assert cause(passed(away, workloads=[twin])) == "nothing-demanded"


def test_a_diagnosis_is_three_lines_and_then_the_evidence():
    lines = str(diagnose.diagnose(seen(token=None, rules=[allow(USERS)]))).splitlines()
    assert lines[0] == "the sidecar of foo/httpbin: 403 RBAC: access denied"
    assert lines[1].startswith("why: ") and lines[2].startswith("change: ")
    assert len(lines) > 3 and all(line.startswith("  · ") for line in lines[3:])


def test_a_refusal_that_is_a_page_is_one_short_line():
    refusal = str(diagnose.diagnose(seen(400, "<!DOCTYPE html>\n<html>Invalid parameter: redirect_uri"))).splitlines()[
        0
    ]
    assert refusal.endswith(": 400 (an HTML page)")


def test_the_page_has_each_fault_with_the_status_to_predict():
    page = (ROOT / "docs" / "why.md").read_text()
    for one in (fault.form(installation.GATEWAY_API) for fault in EVERY):
        wanted = "no answer" if one.prediction == "000" else one.prediction
        row = next((line for line in page.splitlines() if line.startswith(f"| {one.name} | {wanted}")), "")
        assert f"`{one.cause}`" in row, one.name


def test_every_fault_has_its_own_name_and_there_are_many_causes():
    names = [one.name for one in EVERY]
    assert len(set(names)) == len(names) and len({one.cause for one in EVERY}) >= 100
