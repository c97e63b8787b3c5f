"""Who may not even speak: pods without a certificate, with a wrong one, or with another's; and the ways past the proxy.

The certificates are made in memory, some signed by the mesh's own authority (istiod's Secret), and reach the pod's curl
by standard input; the files that curl needs are gone when it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lib.istio import installation
from lib.kubernetes import port_forward
from lib.kubernetes.cluster import Execute
from lib.probes import workloads
from lib.probes.model import HARDENED
from lib.probes.scenarios.requests import Drill, request
from lib.probes.tokens.catalogue import Missing
from lib.probes.tokens.issued import once
from lib.probes.transport.curl import over_curl
from lib.run import Run

AUTHORITY = "istio-ca-secret"  # where istiod keeps the mesh's own CA
HOUR = timedelta(hours=1)
TLS = "1.2"  # 1.3 refuses a client after the handshake: whether curl still reads the alert is then a matter of luck
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
    """Return a client certificate for a SPIFFE id, signed by `signer`, or by itself; the times are from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "probe")])
    issuer = x509.load_pem_x509_certificate(signer.chain.encode()).subject if signer else name
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(issuer).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now + since).not_valid_after(now + until)
    if identity:
        made = made.add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity)]), True)
    usage = x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH, x509.ExtendedKeyUsageOID.SERVER_AUTH])
    by = serialization.load_pem_private_key(signer.key.encode(), None) if signer else key
    text = made.add_extension(usage, False).sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return Pair(text + (signer.chain if signer else ""), key.private_bytes(serialization.Encoding.PEM, *form).decode())


def authority(run: Run) -> Pair:
    """Return the mesh's own CA, as istiod keeps it; it is redacted from then on.

    Missing with a cluster that the runbook did not make: such a key is its owner's alone.
    """
    if run.params.cluster_source == "existing":
        raise Missing("the key of the mesh's CA is not read on a cluster that the runbook did not make")
    kept = run.read_secret(AUTHORITY, installation.ROOT_NAMESPACE)
    return Pair(kept["ca-cert.pem"], kept["ca-key.pem"])


def with_pair(execute: Execute, own: Pair) -> Execute:
    """Return `execute` for curl in a pod, with the pair in a file named @PAIR@ that ends with it."""
    text = own.chain + own.key

    def run(argv: list[str], stdin: str = "") -> tuple[str, int]:
        return execute(["sh", "-c", WITH_FILES, "curl", str(len(text.encode())), argv[-1]], text + stdin)

    return run


def drills(run: Run) -> dict[str, Callable[[Drill], list[str]]]:
    """Return the sequences as lib.probes.runner holds them."""
    callers, ca = once(lambda: workloads.callers_inside(run)), once(lambda: authority(run))
    ask = lambda made: lambda drill: _asked(run, callers()["outsider"], drill, made)  # noqa: E731
    direct = lambda caller, port, path: lambda drill: _direct(run, callers()[caller], drill, port, path)  # noqa: E731
    domain = installation.trust_domain(run.cluster)
    here = run.params.namespace
    signed = lambda who, **times: lambda: pair(f"spiffe://{who}", ca(), **times)  # noqa: E731
    name = installation.ingress(run.cluster)["account"]
    return {
        "tls without a certificate": ask(None),
        "self-signed certificate": ask(lambda: pair(f"spiffe://{domain}/ns/{here}/sa/sleep")),
        "foreign authority": ask(lambda: pair(f"spiffe://{domain}/ns/{here}/sa/sleep", pair())),
        "other trust domain": ask(signed(f"other.domain/ns/{here}/sa/sleep")),
        "expired certificate": ask(signed(f"{domain}/ns/{here}/sa/sleep", since=-2 * HOUR, until=-HOUR)),
        "future certificate": ask(signed(f"{domain}/ns/{here}/sa/sleep", since=HOUR, until=2 * HOUR)),
        "no identity": ask(lambda: pair("", ca())),
        "other namespace": ask(signed(f"{domain}/ns/{workloads.STRANGERS}/sa/sleep")),
        "gateway's name elsewhere": ask(signed(f"{domain}/ns/evil/sa/{name}")),
        "name with a suffix": ask(signed(f"{domain}/ns/{here}/sa/sleep2")),
        "name with a prefix": ask(signed(f"{domain}/ns/{here}/sa/{here}-sleep")),
        "namespace with a suffix": ask(signed(f"{domain}/ns/{here}2/sa/sleep")),
        "the right identity": ask(signed(f"{domain}/ns/{here}/sa/sleep")),
        "plain to the pod": direct("outsider", 8080, "/headers"),
        "sidecar to the pod": direct("sleep", 8080, "/headers"),
        "telemetry port": direct("outsider", 15020, "/stats/prometheus"),
        "health port": direct("outsider", 15021, "/healthz/ready"),
        "envoy's metrics port": direct("outsider", 15090, "/stats/prometheus"),
        "admin port": direct("outsider", 15000, "/config_dump"),
        "outbound port": direct("outsider", 15001, "/headers"),
        "inbound port": direct("outsider", 15006, "/headers"),
        "probe path": direct("outsider", 15020, "/app-health/httpbin/readyz"),
        "port-forward": lambda drill: _forwarded(run, drill),
        "admission": lambda drill: _admitted(run),
    }


def _asked(run: Run, execute: Execute, drill: Drill, make: Callable[[], Pair] | None) -> list[str]:
    """The answers to a TLS connection to the pod with the pair: with no token, and with a good one."""
    options = (("insecure", ""), ("no-alpn", ""), ("tls-max", TLS))
    if make:
        own = make()
        run.record.secret(own.key)
        execute, options = with_pair(execute, own), (*options, ("cert", "@PAIR@"), ("key", "@PAIR@"))
    way = over_curl(execute, f"https://{_pod(run, drill)}:8080", options=options)
    return [reply.answer for reply in way([request(drill, 1, ""), request(drill, 2, "good")])]


def _direct(run: Run, execute: Execute, drill: Drill, port: int, path: str) -> list[str]:
    """The answer to plain HTTP to a port of the pod, past the Service."""
    way = over_curl(execute, f"http://{_pod(run, drill)}:{port}")
    return [_cut(reply.answer) for reply in way([request(drill, 1, "", path)])]


def _cut(answer: str) -> str:
    """A connection that ends without a word of HTTP: by an end or by a reset is a matter of timing."""
    return "0 reset" if answer == "0 closed" else answer


def _forwarded(run: Run, drill: Drill) -> list[str]:
    """The answer to a request by port-forward, which comes to the pod by its own loopback."""
    labels, home = workloads.pods(run, drill.name)
    session = port_forward.session(lambda: run.cluster.connect(labels, home, 8080))
    return [f"{session.get('http://pod/headers', timeout=5).status_code} app"]


def _admitted(run: Run) -> list[str]:
    """What the API server says to pods that go around their sidecar, in the hardened namespace (nothing is kept)."""
    around = [
        {},
        {"sidecar.istio.io/inject": "false"},
        {"traffic.sidecar.istio.io/excludeInboundPorts": "8080"},
        {"traffic.sidecar.istio.io/excludeOutboundIPRanges": "0.0.0.0/0"},
        {"sidecar.istio.io/interceptionMode": "NONE"},
        {"inject.istio.io/templates": "gateway"},
        {"proxy.istio.io/config": "{interceptionMode: NONE}"},
    ]
    said = [run.cluster.try_apply(_bare(run, notes)) for notes in around]
    return [_verdict(one) for one in said]


def _verdict(said: str) -> str:
    return "403 admission" if "runbook-hardened" in said else "400 other" if said else "200 admitted"


def _bare(run: Run, notes: dict[str, str]) -> dict:
    spec = {"containers": [{"name": "httpbin", "image": run.params.httpbin_image}]}
    metadata = {"name": "around", "namespace": HARDENED, "annotations": notes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _pod(run: Run, drill: Drill) -> str:
    labels, home = workloads.pods(run, drill.name)
    return run.cluster.pod(labels, home)["status"]["podIP"]
