"""Random AuthorizationPolicies, tokens and requests, with most of Istio's fields; each case has its own header.

All policies are for one workload or gateway. So every rule has one more condition, request.headers[x-case], and only
requests of its case can match it; at a workload of plain TCP, each case has its own port. A case that denies also has a
policy that allows. Some policies are in the root namespace. Some are not in force: a trial, another revision, another
selector, a reference to a waypoint or to another Gateway.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from lib.istio.policies import API, HTTP_FIELDS, RULES, bare
from lib.names import GATEWAY_GROUP, ISTIO_SYSTEM

ISSUERS = ("https://one.example/realms/a", "https://two.example")
AUDIENCE = "shop"
HEADER = "x-jwt"  # where the second issuer's tokens are
NOW_FAR = 4_000_000_000
SUBJECTS = ("alice", "bob", "team/alice")
PATHS = ("/headers", "/headers/", "/get?a=1", "/a/b/c", "/a/../headers", "/a/%2e%2e/get", "//headers", "/a//b",
         "/A/b", "/a/%62", "/a\\b", "/status/200", "/a/b.css?x=.js", "/a/%2Fb", "/")  # fmt: skip
PATTERNS = ("/headers", "/headers*", "/a/*", "*/b", "*.css", "/get", "*", "/a/{*}/c", "/a/{**}", "/{*}", "/A/*", "/a/b",
            "/{**}/c", "/a//b", "//*")  # fmt: skip
CLAIMS = {
    "scope": ("openid email", "profile", "email"),
    "groups": (["x", "y"], ["y"], "x", []),
    "flag": (True, False, "true"),
    "level": (7, "7"),
    "realm": ({"roles": ["reader", "admin"]}, {"roles": "reader"}, {"roles": []}),
    "a.b": ("dotted",),
    "azp": ("web", "mobile"),
    "permission": ("read write",),
    "words": ("p q",),
    "mixed": ([1, "x"], [True]),
}
KEYS = ("[scope]", "[groups]", "[flag]", "[level]", "[realm][roles]", "[a.b]", "[azp]", "[permission]", "[words]",
        "[mixed]", "[realm]", "[none]", "[realm.roles]", "[iss]")  # fmt: skip
VALUES = (
    "email",
    "x",
    "y",
    "reader",
    "true",
    "7",
    "dotted",
    "web",
    "read",
    "p",
    "*",
    "a*",
    "*r",
    "p q",
    "openid email",
)
HOSTS = ("web.example", "WEB.example", "api.web.example", "web.example:8000")
HOST_PATTERNS = ("web.example", "*.example", "Web.Example", "web.*", "*", "web.example:*", "api*")
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS")
FORWARDED = ("203.0.113.7", "198.51.100.4, 203.0.113.7", "203.0.113.7,198.51.100.4", "not an address")
ALIAS = "old.example"  # a trust domain that counts as the mesh's own
ABSENT = "absent"  # an external authorizer that the mesh's configuration does not have
IN_FORCE = ({}, {"annotations": {"istio.io/dry-run": "true"}}, {"labels": {"istio.io/rev": "other"}},
            {"selector": {"matchLabels": {"app": "other"}}}, {"targetRefs": "other"},
            {"namespace": ISTIO_SYSTEM})  # fmt: skip


@dataclass(frozen=True)
class Place:
    """What policies are drawn for: a workload, or a gateway.

    Attributes:
        name: The beginning of the policies' names.
        namespace: The namespace of the pods.
        labels: The labels that select the pods.
        port: The pods' port; that before the first case's, if each case has a port of plain TCP.
        tcp: Whether the ports carry plain TCP.
        gateway: The Gateway of the Gateway API that made the pods, "" if none did.
    """

    name: str
    namespace: str
    labels: dict[str, str]
    port: int
    tcp: bool = False
    gateway: str = ""

    def port_of(self, case: int) -> str:
        """Return the pods' port that a case's requests reach."""
        return str(self.port + case if self.tcp else self.port)


@dataclass(frozen=True)
class Asked:
    """One request of a case. Its token has a place (header, query, x-jwt) and claims; `sidecar` is the caller's."""

    case: int
    sidecar: bool
    method: str
    path: str
    host: str
    headers: dict[str, str] = field(default_factory=dict)
    place: str = ""
    claims: dict = field(default_factory=dict)
    good: bool = True


def some(random: Random, values, most=2):
    return random.sample(list(values), random.randint(1, min(most, len(values))))


def either(random: Random, name: str, values: list) -> dict:
    """A field, or its negation, or both."""
    negated = f"not{name[0].upper()}{name[1:]}"
    return random.choice([{name: values}, {name: values}, {negated: values}, {name: values, negated: values[:1]}])


class Policies:
    """Draws cases for one place.

    Args:
        random: What the cases are drawn with.
        place: The workload or the gateway.
        namespace: The namespace of the callers.
        account: The service account of the caller that has a sidecar.
        addresses: The addresses of that caller ("caller") and of the place ("web").
        providers: The external authorizers that CUSTOM policies name.
    """

    def __init__(self, random: Random, place: Place, namespace: str, account: str, addresses: dict[str, str],
                 providers: tuple[str, ...]) -> None:  # fmt: skip
        self.random, self.place, self.namespace, self.account = random, place, namespace, account
        self.addresses, self.providers, self.tcp = addresses, providers, place.tcp

    def case(self, number: int) -> list[dict]:
        """The policies of one case."""
        action = self.random.choices(["ALLOW", "DENY", "AUDIT", "CUSTOM"], [8, 4, 2, 2])[0]
        rules = [self._rule(number) for _ in range(self.random.randint(1, 2))]
        if self.tcp and self.random.random() < 0.7:  # the others show what becomes of a rule that TCP cannot have
            rules = [_plain(rule) for rule in rules]
        force = self.random.choices(IN_FORCE, [16, 1, 1, 1, 1, 4])[0]
        made = [self._policy(f"case-{number}", action, rules, force)]
        if action != "ALLOW":
            made.append(self._policy(f"open-{number}", "ALLOW", [{"when": [self._mine(number)]}], {}))
        return made

    def _policy(self, name: str, action: str, rules: list[dict], force: dict) -> dict:
        place, targets = self.place, force.get("targetRefs", "")
        if place.gateway and not {"selector", "namespace"} & set(force):
            targets = targets or self.random.choice([place.gateway, ""])
        chosen = {"selector": force.get("selector", {"matchLabels": place.labels})}
        if targets:
            kind = {"group": GATEWAY_GROUP, "kind": "Gateway"} if place.gateway else {"group": "", "kind": "Service"}
            chosen = {"targetRefs": [{**kind, "name": targets}]}
        elif self.tcp and action in ("DENY", "AUDIT") and self.random.random() < 0.5:
            chosen = {}  # for the namespace, or from the root namespace for the mesh: no other pod has such a port
        provider = {"provider": {"name": self.random.choice(self.providers)}} if action == "CUSTOM" else {}
        spec = {**chosen, "action": action, **provider, "rules": rules}
        more = {key: force[key] for key in ("labels", "annotations") if key in force}
        metadata = {"name": f"{place.name}-{name}", "namespace": force.get("namespace", place.namespace), **more}
        return {"apiVersion": API, "kind": RULES, "metadata": metadata, "spec": spec}

    def _mine(self, number: int) -> dict:
        if self.tcp:
            return {"key": "destination.port", "values": [self.place.port_of(number)]}
        return {"key": "request.headers[x-case]", "values": [str(number)]}

    def _rule(self, number: int) -> dict:
        random = self.random
        rule: dict = {"when": [self._mine(number)]}
        if random.random() < 0.6:
            rule["from"] = [{"source": self._source()} for _ in range(random.randint(1, 2))]
        if random.random() < 0.6:
            rule["to"] = [{"operation": self._operation(number)} for _ in range(random.randint(1, 2))]
        for _ in range(random.choice([0, 0, 1, 1, 2])):
            rule["when"].append(self._condition())
        return rule

    def _source(self) -> dict:
        random, home, account = self.random, self.namespace, self.account
        own = f"cluster.local/ns/{home}/sa/{account}"
        fields = {
            "principals": [own, "*", f"cluster.local/ns/{home}/*", f"*/sa/{account}", "other.domain/ns/x/sa/y",
                           f"*/ns/{home}/sa/{account}", f"{ALIAS}/ns/{home}/sa/{account}",
                           f"*.example/ns/{home}/sa/{account}", f"{ALIAS}/*"],
            "requestPrincipals": ["*", *(f"{one}/*" for one in ISSUERS), f"{ISSUERS[0]}*", f"{ISSUERS[0]}/alice",
                                  "*/alice", f"{ISSUERS[1]}/a*", "*lice", f"{ISSUERS[0]}/team/alice"],
            "namespaces": [home, f"{home[:2]}*", "other", "*", f"*{home[-2:]}"],
            "serviceAccounts": [account, f"{home}/{account}", "other", f"other/{account}"],
            "ipBlocks": [self.addresses["caller"], "10.0.0.0/8", "203.0.113.0/24", "0.0.0.0/0"],
            "remoteIpBlocks": [self.addresses["caller"], "203.0.113.7", "198.51.100.0/24", "0.0.0.0/1"],
            "trustDomains": ["cluster.local", "*", "*.local", "other", ALIAS, "*.example", "old*"],
        }  # fmt: skip
        chosen = some(random, fields)
        if "serviceAccounts" in chosen:  # Istio refuses it beside principals and namespaces
            chosen = [one for one in chosen if one not in ("principals", "namespaces")]
        made: dict = {}
        for name in chosen:
            made |= either(random, name, some(random, fields[name]))
        if {"serviceAccounts", "notServiceAccounts"} & set(made):
            made = {key: value for key, value in made.items() if "rincipal" not in key or "request" in key.lower()}
        return made

    def _operation(self, number: int) -> dict:
        random = self.random
        fields = {
            "hosts": HOST_PATTERNS,
            "methods": (*METHODS, "*", "P*"),
            "paths": PATTERNS,
            "ports": (self.place.port_of(number), "8000"),
        }
        made: dict = {}
        for name in some(random, fields):
            made |= either(random, name, some(random, fields[name]))
        return made

    def _condition(self) -> dict:
        random, addresses = self.random, self.addresses
        own = f"cluster.local/ns/{self.namespace}/sa/{self.account}"
        choices = {
            "request.headers[x-tenant]": ["blue", "*", "b*", "*d"],
            "request.headers[x-user]": ["alice", "*", "bob"],
            "request.headers[x-absent]": ["1", "*"],
            "request.headers[:path]": ["/headers", "/get?a=1", "/a*", "*1"],
            "request.headers[:method]": ["GET", "P*"],
            "request.headers[host]": ["web.example", "*"],
            "request.headers[authorization]": ["*", "Bearer *"],
            "source.ip": [addresses["caller"], "10.0.0.0/8", "192.0.2.0/24"],
            "remote.ip": [addresses["caller"], "203.0.113.7", "198.51.100.0/24"],
            "request.headers[x-forwarded-for]": ["203.0.113.7", "198*", "*7", "*"],
            "request.headers[origin]": ["*", "https://page.example"],
            "source.namespace": [self.namespace, "other", "*"],
            "source.principal": [own, "*", "other", f"{ALIAS}/ns/{self.namespace}/sa/{self.account}"],
            "source.trustDomain": ["cluster.local", "other", ALIAS, "cluster*"],
            "source.serviceAccount": [f"{self.namespace}/{self.account}", "other/x"],
            "destination.ip": [addresses["web"], "192.0.2.1"],
            "destination.port": [self.place.port_of(0), "8000"],
            "request.auth.principal": ["*", f"{ISSUERS[0]}/alice", f"{ISSUERS[1]}/*"],
            "request.auth.audiences": [AUDIENCE, "other", "sh*"],
            "request.auth.presenter": ["web", "mobile", "*"],
        }
        choices |= {f"request.auth.claims{key}": list(VALUES) for key in KEYS}
        weights = [4 if "claims" in key else 3 for key in choices]
        choices |= {"experimental.envoy.filters.http.lua[x]": ["1"], "connection.sni": ["*web*", "outbound*"]}
        weights += [1, 1]  # the evaluator cannot know these
        key = random.choices(list(choices), weights)[0]
        values = some(random, choices[key], 3)
        return {"key": key, **random.choice([{"values": values}, {"values": values}, {"notValues": values}])}

    def request(self, number: int) -> Asked:
        """A request for a case."""
        random = self.random
        headers = {}
        if random.random() < 0.4:
            headers["X-Tenant"] = random.choice(["blue", "red", ""])
        if random.random() < 0.2:
            headers["X-User"] = "mallory"
        if random.random() < 0.3:
            headers["X-Forwarded-For"] = random.choice(FORWARDED)
        method = random.choice(METHODS)
        if random.random() < (0.7 if method == "OPTIONS" else 0.1):  # with OPTIONS, a browser's preflight
            headers |= {"Origin": "https://page.example", "Access-Control-Request-Method": "PUT"}
        place, claims = random.choice(["", "", "header", "header", "header", "query", HEADER]), {}
        if place:
            claims = {
                "iss": ISSUERS[1] if place == HEADER else ISSUERS[0],
                "sub": random.choice(SUBJECTS),
                "exp": NOW_FAR,
            }
            claims["aud"] = random.choice([AUDIENCE, [AUDIENCE, "other"], "other"] if place != HEADER else [AUDIENCE])
            for name in some(random, CLAIMS, 5):
                claims[name] = random.choice(CLAIMS[name])
            if random.random() < 0.1:
                claims.pop("sub")
        return Asked(number, random.random() < 0.8, method, random.choice(PATHS), random.choice(HOSTS),
                     headers, place, claims, random.random() > 0.05)  # fmt: skip


def _plain(rule: dict) -> dict:
    """The rule without the fields that only HTTP has."""
    made: dict = {"when": [one for one in rule["when"] if not one["key"].startswith("request.")]}
    for side, part in (("from", "source"), ("to", "operation")):
        kept = [
            {key: value for key, value in one[part].items() if bare(key) not in HTTP_FIELDS}
            for one in rule.get(side, [])
        ]
        if any(kept):
            made[side] = [{part: one} for one in kept if one]
    return made
