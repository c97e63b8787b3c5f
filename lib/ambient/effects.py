"""What a move to ambient does to a policy, in a word and a sentence with its source."""

DOCS = "https://istio.io/latest/docs/ambient"
L4, MIGRATE = f"{DOCS}/usage/l4-policy/", f"{DOCS}/migrate/migrate-policies/"
CODE = "istio/istio 1.31, pilot/pkg"
ZTUNNEL = f"{CODE}/serviceregistry/ambient/authorization.go"
WAYPOINT, CLASS = "waypoint", "istio-waypoint"
USE, INGRESS_USE = "istio.io/use-waypoint", "istio.io/ingress-use-waypoint"
EFFECTS = {
    "token": ("IGNORED", f"ztunnel reads no tokens: nothing checks them, and no request has a principal. {MIGRATE}"),
    "custom": ("IGNORED", f"ztunnel knows no {{0}}: the policy is in force nowhere. {ZTUNNEL}"),
    "trial": ("IGNORED", f"ztunnel does not evaluate a trial (istio.io/dry-run). {ZTUNNEL}"),
    "allow": ("DENIES MORE", f"ztunnel leaves out the rules with {{0}}, and refuses what they allowed. {L4}"),
    "none": ("DENIES EVERYTHING", f"each rule has {{0}}, and ztunnel leaves such rules out. {L4}"),
    "deny": ("DENIES MORE", f"ztunnel enforces the rules without {{0}}, so they refuse more. {ZTUNNEL}"),
    "all": ("DENIES EVERYTHING", f"a rule has nothing but {{0}}, which ztunnel leaves out. {ZTUNNEL}"),
    "wide": ("DENIES MORE", f"istiod does not send {{0}} to ztunnel: such a rule denies every trust domain. {ZTUNNEL}"),
    "open": ("WEAKER", f"istiod does not send {{0}} to ztunnel: such a rule allows every trust domain. {ZTUNNEL}"),
    "peer": (
        "CHANGES",
        "the namespace needs a waypoint, and ztunnel then sees the waypoint as the caller of all requests. An ALLOW "
        f"policy that stays at ztunnel also lets callers go around the waypoint. {L4}",
    ),
    "mesh": (
        "IGNORED",
        f"a waypoint reads no policy without targetRefs, nor the root namespace's. {CODE}/model/policyattachment.go",
    ),
    "plain": ("IGNORED", f"mode DISABLE: traffic between ambient pods is always mutual TLS. {L4}"),
    "filter": (
        "IGNORED",
        "only gateways still read it: a waypoint reads only an EnvoyFilter with targetRefs, and ztunnel is no Envoy. "
        f"What it protects at pods (paths, headers) is open. {CODE}/model/policyattachment.go and {MIGRATE}",
    ),
    "plugin": (
        "IGNORED",
        "only gateways still run it: a waypoint reads only a plugin with targetRefs, and ztunnel runs none. What it "
        f"protects at pods is open. {DOCS}/usage/extend-waypoint-wasm/ and {CODE}/model/extensions.go",
    ),
    "telemetry": (
        "IGNORED",
        f"only gateways still read it: a waypoint reads only a Telemetry with targetRefs. {CODE}/model/telemetry.go",
    ),
    "callers": (
        "CHANGES",
        "callers have no sidecar to apply it. Its TLS to hosts outside the mesh is not started, so such requests leave "
        "in plain text; inside, ztunnel always speaks mutual TLS. A waypoint applies it for its own Services. "
        f"{CODE}/networking/core/cluster_waypoint.go",
    ),
    "sidecar": (
        "IGNORED",
        "ambient pods have none. https://istio.io/latest/docs/reference/config/analysis/ist0167/",
    ),
    "virtual": ("UNCERTAIN", f"VirtualServices at waypoints are alpha, and undefined beside an HTTPRoute. {MIGRATE}"),
    "same": ("SAME", f"ztunnel enforces all of it. {L4}"),
}
PLACE = f"The waypoint of {{0}}. {DOCS}/usage/waypoint/"
GUARD = (
    "The guard: pods take connections from the waypoint alone. Without it, a caller that goes around the waypoint (by "
    f"a pod's address, from a sidecar, from a gateway without {INGRESS_USE}, while the waypoint is not in use) meets "
    f"none of the rules. {L4} and https://github.com/istio/istio/issues/51214"
)
ENTRY = (
    "Gateways go around a waypoint unless the Service asks them not to: kubectl label service -n {0} {1} "
    f"{INGRESS_USE}=true. {CODE}/features/ambient.go (ENABLE_INGRESS_WAYPOINT_ROUTING)"
)
ORDER = (
    "Order, so that nothing is open at any moment: apply the waypoint and wait until it is programmed; apply the "
    f"policies with targetRefs and the copies for gateways; label the namespaces {USE}={WAYPOINT}; apply the guards; "
    "label the gateways' Services; delete the old policies last. A waypoint that is not ready enforces nothing, and "
    "without the guards ztunnel sends straight on. https://github.com/istio/istio.io/pull/17520"
)
UNTRIED = (
    "Not tried: ztunnel, which the sandbox does not have. What it enforces is read from istiod's source and Istio's "
    "documentation. Tried there: one waypoint, an upstream Envoy, with a RequestAuthentication and an "
    "AuthorizationPolicy of a Service, reached from a gateway by HBONE; and the guard, at a sidecar in place of "
    "ztunnel. Try it on a cluster with ztunnel first."
)
COPY = (
    "Gateways stay Envoys, and {0} is in force at their pods too. This copy is for them: it replaces the old policy, "
    "which goes last."
)
OTHER_PODS = (
    "The Service {0} also leads to pods that {1} does not select. At a waypoint the policy holds for all of them, and "
    "ALLOW policies of one Service add up. Give these pods a Service of their own first."
)
PORTS = (
    "{0} compares ports or addresses of pods, and a waypoint sees those of Services. They do not fit all its Services, "
    f"so no policy was written. Write one for each Service. {CODE}/networking/core/listener_waypoint.go"
)
NO_SERVICE = "No Service in the input leads to the pods of {0}. A waypoint applies policies to Services: name one."


def say(effect: str, names: str = "") -> tuple[str, str]:
    """Return an effect's word and its sentence, with the fields that cause it."""
    word, text = EFFECTS[effect]
    return word, text.format(names)
