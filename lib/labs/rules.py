"""The faults of policies that look right: another spelling, another place, a label that takes them out of force.

Each has the request that shows it and the cause that `why` must name, as in lib.labs.faults.
"""

from __future__ import annotations

from lib.diagnose.pods import EXCLUDED_PORTS
from lib.istio.mesh import REVISION
from lib.istio.policies import DRY_RUN
from lib.labs import changes
from lib.labs.fault import Fault, nothing
from lib.labs.lab import APP, FRIEND, NAMESPACE, Lab
from lib.steps import realm

ROLES = "request.auth.claims[realm_access][roles]"
SITE = "https://app.example"  # where the page of a browser's preflight comes from


def pod_url(lab: Lab) -> str:
    """Return the URL of the workload's pod, by its address."""
    (pod,) = lab.cluster.items("v1", "Pod", APP, f"app={APP}")
    return f"http://{pod['status']['podIP']}:8080/headers"


def bypassed_sidecar(lab: Lab) -> None:
    """Let the application's port go past the sidecar, and wait until the gateway may connect to the pod."""
    lab.replace_workload({EXCLUDED_PORTS: "8080"})
    lab.cluster.wait_rolled_out("Deployment", APP, NAMESPACE, changes.PATIENCE)


FAULTS = [
    Fault("a method that is not allowed", "method-not-allowed", "403", changes.rule_for(methods=["POST"])),
    Fault("a method that is excluded", "excluded", "403", changes.rule_for(notMethods=["GET"])),
    Fault(
        "another network",
        "address-not-allowed",
        "403",
        lambda lab: lab.set_authorization({"from": [{"source": {"remoteIpBlocks": ["192.0.2.0/24"]}}]}),
    ),
    Fault(
        "a header that is missing", "header-not-allowed", "403", changes.rule_when("request.headers[x-tenant]", "blue")
    ),
    Fault(
        "a claim within a claim, written with a dot",
        "claim-path",
        "403",
        changes.rule_when("request.auth.claims[realm_access.roles]", realm.READER),
    ),
    Fault("a role in capitals", "role-case", "403", changes.rule_when(ROLES, realm.READER.upper())),
    Fault(
        "notValues where values was meant", "role-excluded", "403", changes.rule_when(ROLES, notValues=[realm.READER])
    ),
    Fault(
        "roles in one string",
        "roles-in-one-string",
        "403",
        changes.rule_when("request.auth.claims[roles]", "reader"),
        token=lambda lab: lab.signed(roles="reader,editor"),
    ),
    Fault(
        "a claim that is a boolean",
        "claim-not-text",
        "403",
        changes.rule_when("request.auth.claims[email_verified]", "true"),
        token=lambda lab: lab.signed(email_verified=True),
    ),
    Fault("a policy on trial", "dry-run", "200", changes.labelled(annotations={DRY_RUN: "true"}), token=nothing),
    Fault(
        "a policy of another revision",
        "other-revision",
        "200",
        changes.labelled(labels={REVISION: "canary"}),
        token=nothing,
    ),
    Fault(
        "a policy for a waypoint",
        "target-ref",
        "200",
        lambda lab: lab.set_authorization(selector=None, targetRefs=[{"group": "", "kind": "Service", "name": APP}]),
        token=nothing,
    ),
    Fault(
        "a token in another header",
        "token-elsewhere",
        "403",
        token=nothing,
        headers=lambda lab: {"X-Token": lab.good_token},
        asks="a user, through the gateway, asks for `/headers` with a token in the header X-Token",
    ),
    Fault(
        "a browser's preflight",
        "preflight",
        "403",
        token=nothing,
        headers=lambda lab: {"Origin": SITE, "Access-Control-Request-Method": "GET"},
        method="OPTIONS",
        asks="a browser asks whether a page of another site may ask for `/headers`",
    ),
    Fault(
        "a port that goes past the sidecar",
        "port-bypassed",
        "503",
        bypassed_sidecar,
    ),
    Fault("a pod's own address", "pod-address", "000", token=nothing, caller=FRIEND, url=pod_url),
    Fault("a Sidecar that hides the Service", "not-in-scope", "000", changes.sidecar, nothing, FRIEND),
    Fault(
        "a port that no process listens at",
        "upstream",
        "503",
        changes.service(ports=[{"name": "http", "port": 8000, "targetPort": 8089}]),
    ),
    Fault(
        "a route to a Service that is not there",
        "destination-missing",
        "503",
        changes.route(route=[{"destination": {"host": "lab", "port": {"number": 8000}}}]),
        gateway_api={
            "cause": "route-not-accepted",
            "prediction": "500",
            "change": changes.route(backendRefs=[{"name": "lab", "port": 8000}]),
        },
    ),
    Fault(
        "a fault that was forgotten",
        "fault",
        "503",
        changes.route(fault={"abort": {"httpStatus": 503, "percentage": {"value": 100}}}),
        gateway_api={  # it has no faults; a redirect to a page of an outage is forgotten as easily
            "cause": "route-answer",
            "prediction": "302",
            "change": changes.route(backendRefs=None, filters=[changes.TO_OUTAGE_PAGE]),
        },
    ),
    Fault(
        "a route that answers itself",
        "route-answer",
        "418",
        changes.route(route=None, directResponse={"status": 418}),
        gateway_api={"prediction": "500", "change": changes.route(backendRefs=None)},
    ),
]
