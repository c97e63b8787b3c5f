"""Scenarios of mutual TLS: pods without a certificate, with a wrong or stolen identity, and ways around the proxy.

The certificates are made in memory, some signed by the mesh's own CA (istiod's Secret). They reach the pod's curl by
standard input. curl needs them as files, which are deleted when it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lib.crypto import certificates
from lib.istio import installation
from lib.kubernetes import port_forward
from lib.kubernetes.cluster import Execute
from lib.probes import workloads
from lib.probes.model import HARDENED
from lib.probes.scenarios.requests import Context, Scenario, request
from lib.probes.tokens.issued import once
from lib.probes.tokens.kit import Missing
from lib.probes.transport.curl import Options, over_curl
from lib.run import Run
from lib.steps import endpoints

AUTHORITY = "istio-ca-secret"  # Secret: istiod keeps the mesh's CA there
HOUR = timedelta(hours=1)
TLS = "1.2"  # with 1.3 the refusal comes after the handshake, and curl may miss the alert
WITH_FILES = (
    'umask 077; d=$(mktemp -d) && trap "rm -rf $d" EXIT && head -c "$1" > "$d/pair.pem" && shift'
    ' && head -c "$1" | sed "s|@PAIR@|$d/pair.pem|" | curl --disable --config -'
)


@dataclass(frozen=True)
class Pair:
    """A certificate with its chain and its private key, as PEM."""

    chain: str
    key: str


def pair(identity: str = "", signer: Pair | None = None, since: timedelta = -HOUR, until: timedelta = HOUR) -> Pair:
    """Return a client certificate for a SPIFFE id, signed by `signer` or by itself; times are relative to now."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)])
    usage = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH, x509.ExtendedKeyUsageOID.SERVER_AUTH])
    made = certificates.certificate(
        x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "probe")]),
        key,
        now + since,
        now + until,
        *([(names, True)] if identity else []),
        (usage, False),
        issuer=x509.load_pem_x509_certificate(signer.chain.encode()) if signer else None,
        issuer_key=certificates.load_key(signer.key) if signer else None,
    )
    return Pair(certificates.pem(made) + (signer.chain if signer else ""), certificates.key_pem(key))


def authority(run: Run) -> Pair:
    """Return the mesh's own CA from istiod's Secret, and redact it from now on.

    Missing if the cluster is not the runbook's: the probes do not read the CA key of somebody else's mesh.
    """
    if run.params.cluster_source == "existing":
        raise Missing("the key of the mesh's CA is not read on a cluster that the runbook did not make")
    secret = run.read_secret(AUTHORITY, installation.ROOT_NAMESPACE)
    return Pair(secret["ca-cert.pem"], secret["ca-key.pem"])


def with_pair(execute: Execute, own: Pair) -> Execute:
    """Return an `execute` for curl in a pod that puts the pair in a temporary file, @PAIR@ in curl's config."""
    text = own.chain + own.key

    def run(argv: list[str], stdin: str = "") -> tuple[str, int]:
        return execute(["sh", "-c", WITH_FILES, "curl", str(len(text.encode())), argv[-1]], text + stdin)

    return run


def scenarios(run: Run) -> dict[str, Scenario]:
    """Return the scenarios by name."""
    executors, ca = once(lambda: workloads.callers_inside(run)), once(lambda: authority(run))
    domain, namespace = installation.trust_domain(run.cluster), run.params.namespace

    def address(context: Context, port: int = 8080) -> str:
        return f"{_pod(run, context)}:{port}"

    def ask(make: Callable[[], Pair]) -> Scenario:
        return lambda context: _over_tls(executors()["outsider"], address(context), context, make, run.record.secret)

    def direct(caller: str, port: int, path: str) -> Scenario:
        return lambda context: _direct(executors()[caller], address(context, port), context, path)

    def signed(identity: str, **times: timedelta) -> Callable[[], Pair]:
        return lambda: pair(f"spiffe://{identity}", ca(), **times)

    name = installation.ingress(run.cluster, endpoints.ingress_gateway(run))["account"]
    identity = f"spiffe://{domain}/ns/{namespace}/sa/sleep"
    return {
        **without_authority(lambda: executors()["outsider"], address, identity, run.record.secret),
        "other trust domain": ask(signed(f"other.domain/ns/{namespace}/sa/sleep")),
        "expired certificate": ask(signed(f"{domain}/ns/{namespace}/sa/sleep", since=-2 * HOUR, until=-HOUR)),
        "future certificate": ask(signed(f"{domain}/ns/{namespace}/sa/sleep", since=HOUR, until=2 * HOUR)),
        "no identity": ask(lambda: pair("", ca())),
        "other namespace": ask(signed(f"{domain}/ns/{workloads.STRANGERS}/sa/sleep")),
        "gateway's name elsewhere": ask(signed(f"{domain}/ns/evil/sa/{name}")),
        "name with a suffix": ask(signed(f"{domain}/ns/{namespace}/sa/sleep2")),
        "name with a prefix": ask(signed(f"{domain}/ns/{namespace}/sa/{namespace}-sleep")),
        "namespace with a suffix": ask(signed(f"{domain}/ns/{namespace}2/sa/sleep")),
        "the right identity": ask(signed(f"{domain}/ns/{namespace}/sa/sleep")),
        "node to the pod": direct(workloads.NODE, 8080, "/headers"),
        "sidecar to the pod": direct("sleep", 8080, "/headers"),
        "telemetry port": direct("outsider", 15020, "/stats/prometheus"),
        "health port": direct("outsider", 15021, "/healthz/ready"),
        "envoy's metrics port": direct("outsider", 15090, "/stats/prometheus"),
        "admin port": direct("outsider", 15000, "/config_dump"),
        "outbound port": direct("outsider", 15001, "/headers"),
        "inbound port": direct("outsider", 15006, "/headers"),
        "probe path": direct("outsider", 15020, "/app-health/httpbin/readyz"),
        "port-forward": lambda context: _forwarded(run, context),
        "admission": lambda context: _admitted(run),
    }


def without_authority(
    outsider: Callable[[], Execute],
    address: Callable[[Context], str],
    identity: str,
    keep: Callable[[str], object] = lambda key: None,
) -> dict[str, Scenario]:
    """Return the scenarios that need nothing of the mesh, by name: plain text, and certificates of no authority.

    Args:
        outsider: Runs a command in a pod without a sidecar.
        address: The host:port of the workload's pod.
        identity: A SPIFFE id that the policies let in, which the certificates claim.
        keep: Gets each private key, which must not be shown.
    """

    def ask(make: Callable[[], Pair] | None) -> Scenario:
        return lambda context: _over_tls(outsider(), address(context), context, make, keep)

    return {
        "tls without a certificate": ask(None),
        "self-signed certificate": ask(lambda: pair(identity)),
        "foreign authority": ask(lambda: pair(identity, pair())),
        "plain to the pod": lambda context: _direct(outsider(), address(context), context, "/headers"),
    }


def _over_tls(
    execute: Execute,
    address: str,
    context: Context,
    make: Callable[[], Pair] | None,
    keep: Callable[[str], object],
) -> list[str]:
    """Ask the pod over TLS with the pair; return the answers to no token and to a good one."""
    options: Options = (("insecure", ""), ("no-alpn", ""), ("tls-max", TLS))
    if make:
        own = make()
        keep(own.key)
        execute, options = with_pair(execute, own), (*options, ("cert", "@PAIR@"), ("key", "@PAIR@"))
    send = over_curl(execute, f"https://{address}", options=options)
    return [reply.answer for reply in send([request(context, 1, ""), request(context, 2, "good")])]


def _direct(execute: Execute, address: str, context: Context, path: str) -> list[str]:
    """Ask a port of the pod in plain HTTP, past the Service; return the answer."""
    send = over_curl(execute, f"http://{address}")
    return [as_reset(reply.answer) for reply in send([request(context, 1, "", path)])]


def as_reset(answer: str) -> str:
    """Count a closed connection as a reset one: timing alone decides which of them a caller sees."""
    return "0 reset" if answer == "0 closed" else answer


def _forwarded(run: Run, context: Context) -> list[str]:
    """Ask by port-forward, which reaches the pod on its loopback; return the answer."""
    labels, home = workloads.pod_selector(run, context.name)
    session = port_forward.session(lambda: run.cluster.connect(labels, home, 8080))
    return [f"{session.get('http://pod/headers', timeout=5).status_code} app"]


def _admitted(run: Run) -> list[str]:
    """Try, by dry run, to create pods in the hardened namespace that bypass their sidecar; return the verdicts."""
    annotations: list[dict[str, str]] = [
        {},
        {"sidecar.istio.io/inject": "false"},
        {"traffic.sidecar.istio.io/excludeInboundPorts": "8080"},
        {"traffic.sidecar.istio.io/excludeOutboundIPRanges": "0.0.0.0/0"},
        {"sidecar.istio.io/interceptionMode": "NONE"},
        {"inject.istio.io/templates": "gateway"},
        {"proxy.istio.io/config": "{interceptionMode: NONE}"},
    ]
    refusals = [run.cluster.try_apply(_bypassing_pod(run, one)) for one in annotations]
    return [_admission_answer(one) for one in refusals]


def _admission_answer(refusal: str) -> str:
    if not refusal:
        return "200 admitted"
    return "403 admission" if "runbook-hardened" in refusal else "400 other"


def _bypassing_pod(run: Run, notes: dict[str, str]) -> dict:
    spec = {"containers": [{"name": "httpbin", "image": run.params.httpbin_image}]}
    metadata = {"name": "around", "namespace": HARDENED, "annotations": notes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _pod(run: Run, context: Context) -> str:
    labels, home = workloads.pod_selector(run, context.name)
    return run.cluster.pod(labels, home)["status"]["podIP"]
