"""Steps 02, 03, 07: the environment's certificate authority (CA), and the certificates of Keycloak and the gateways.

The CA signs Keycloak's certificate, and with `tls: own-ca` those of the gateways. Its private key stays in a namespace
that runs no pods. A gateway may read the Secrets of its namespace, so a key there could sign for any name. With
`tls: given` the gateways' certificates are Secrets that another program keeps, for example cert-manager (docs/tls.md).
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from weakref import WeakSet

from lib.crypto import certificates, trust_store
from lib.crypto.certificates import RENEW_DAYS
from lib.errors import ClusterError, RunbookError
from lib.files import write_atomic
from lib.istio import installation, istioctl
from lib.params import Params
from lib.run import Run

HOME, AUTHORITY = "runbook-ca", "authority"  # namespace and Secret of the CA
OWN, GIVEN, OFF = "own-ca", "given", "off"  # values of the param `tls`
CERTIFICATE, KEY = "tls.crt", "tls.key"  # keys of a Secret of type kubernetes.io/tls
CA_VOLUME = "ca"
PREVIOUS = "previous.crt"  # key of the CA's Secret: the certificate of the CA before this one
_up_to_date: WeakSet[Run] = WeakSet()  # runs that have read the CA from the cluster


def authority(run: Run) -> str:
    """Return the CA's certificate as PEM, or "" without TLS."""
    return _authority(run)[CERTIFICATE] if run.params.tls != OFF else ""


def trusted_certificates(run: Run) -> str:
    """Return the CA's certificate and, until it expires, the previous CA's, as PEM; "" without TLS.

    Both, since servers present certificates of the previous CA until they are replaced. If istiod cannot verify one of
    them, it does not ask for keys again for minutes.
    """
    secret = _authority(run) if run.params.tls != OFF else {}
    return secret.get(CERTIFICATE, "") + secret.get(PREVIOUS, "")


def restart_on_ca_change(objects: list[dict], root: str) -> list[dict]:
    """Annotate in place each Deployment with a volume `ca`: its pods read the CA once, so another CA restarts them."""
    for pods in (one["spec"]["template"] for one in objects if one["kind"] == "Deployment"):
        if CA_VOLUME in (volume["name"] for volume in pods["spec"].get("volumes", [])):
            pods["metadata"].setdefault("annotations", {})[istioctl.AUTHORITY_NOTE] = istioctl.authority_digest(root)
    return objects


def trust(run: Run) -> None:
    """Trust the CA that the cluster has, on this machine: its file may be missing, or come from an earlier cluster.

    The cluster is asked once for each Run. Without the right to read that Secret, the file is used.
    """
    if run.params.tls == OFF or run in _up_to_date:
        return
    file = run.params.authority_file
    try:
        text = trusted_certificates(run) if run.cluster.find("v1", "Secret", AUTHORITY, HOME) else ""
    except ClusterError:
        if not file.exists():
            raise
        text = ""
    _up_to_date.add(run)
    if text and (not file.exists() or file.read_text() != text):
        _trust(file, text)


def ensure_authority(run: Run) -> str:
    """Create the CA, or replace it shortly before it expires; return the certificates to trust, as PEM."""
    if run.params.tls == OFF:
        return ""
    _given_authority(run.params)  # raises now if the file is missing
    run.apply(run.load("ca-namespace.yaml"))
    secret = _find(run, AUTHORITY, HOME)
    why = "none" if not secret else certificates.authority_problem(secret[CERTIFICATE], secret[KEY])
    if why:
        previous = certificates.still_good(secret[CERTIFICATE] if secret else _trusted_by_istiod(run))
        _put(run, AUTHORITY, HOME, *certificates.generate_authority(_name(run)), previous)
    elif secret.get(PREVIOUS) and not certificates.still_good(secret[PREVIOUS]):
        _put(run, AUTHORITY, HOME, secret[CERTIFICATE], secret[KEY])
        why = "the previous one has expired"
    run.changed("Secret", AUTHORITY, _action(secret, why), HOME)
    text = trusted_certificates(run)
    _trust(run.params.authority_file, text)
    run.record.evidence("mesh/ca.pem", text)
    return text


def ensure_certificate(run: Run, name: str, namespace: str, names: list[str]) -> dict[str, str]:
    """Create the Secret with a certificate for these names; return the certificate's public fields.

    The certificate is replaced if it is near its end, for other names, or from another CA.
    """
    ca, secret = _authority(run), _find(run, name, namespace)
    root, certificate = ca[CERTIFICATE], secret.get(CERTIFICATE, "")
    why = "none" if not secret else certificates.problem(certificate, secret[KEY], names, root, days=RENEW_DAYS)
    if why:
        certificate, key = certificates.issue(root, ca[KEY], names)
        _put(run, name, namespace, certificate, key)
    run.changed("Secret", name, _action(secret, why), namespace)
    return certificates.summary(certificate)


def check_given(run: Run, name: str, namespace: str, names: list[str]) -> dict[str, str]:
    """Return the public fields of the certificate in a Secret that another program keeps.

    Raises:
        RunbookError: the Secret is missing, or its certificate is not good for these names.
    """
    secret = _find(run, name, namespace)
    wanted = f"a Secret {namespace}/{name} (type kubernetes.io/tls) with a certificate for {', '.join(names)}"
    if not secret or not secret.get(CERTIFICATE) or not secret.get(KEY):
        raise RunbookError(f"expected {wanted}, since tls is given, got none; make it (docs/tls.md).")
    why = certificates.problem(secret[CERTIFICATE], secret[KEY], names, _given_authority(run.params), days=1)
    if why:
        raise RunbookError(f"expected {wanted}, got one that cannot be used: {why}; replace it (docs/tls.md).")
    run.changed("Secret", name, "unchanged", namespace)
    return certificates.summary(secret[CERTIFICATE])


def _given_authority(params: Params) -> str:
    if not params.given_authority_file:
        return ""
    if not params.given_authority_file.is_file():
        raise RunbookError(f"expected the CA's certificate at {params.ca_file}, found none; correct the param ca_file.")
    return params.given_authority_file.read_text()


def _name(run: Run) -> str:
    """Return a name that no earlier CA has, since programs tell CAs apart by their names."""
    return f"runbook {run.params.env} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


def _action(secret: dict[str, str], why: str) -> str:
    return "created" if not secret else "changed" if why else "unchanged"


def _authority(run: Run) -> dict[str, str]:
    return run.read_secret(AUTHORITY, HOME, step="02-istio")


def _trusted_by_istiod(run: Run) -> str:
    """The CA's Secret was deleted: return the CA that istiod still trusts, which signed the certificates in use."""
    configured = run.cluster.find("v1", "ConfigMap", installation.JWKS_CA, installation.ROOT_NAMESPACE) or {}
    return configured.get("data", {}).get(installation.JWKS_CA_KEY, "")


def _find(run: Run, name: str, namespace: str) -> dict[str, str]:
    return run.read_secret(name, namespace) if run.cluster.find("v1", "Secret", name, namespace) else {}


def _put(run: Run, name: str, namespace: str, certificate: str, key: str, previous: str = "") -> None:
    run.record.secret(key)
    values = {CERTIFICATE: certificate, KEY: key} | ({PREVIOUS: previous} if previous else {})
    data = {part: base64.b64encode(text.encode()).decode() for part, text in values.items()}
    metadata = {"name": name, "namespace": namespace}
    run.cluster.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls", "data": data}
    )


def _trust(path: Path, text: str) -> None:
    """Write the certificates for other programs on this machine, and trust them in this one."""
    write_atomic(path, text)
    trust_store.add_file(path)
