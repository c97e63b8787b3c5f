"""The certificates that users, pods and istiod meet: whose they are, where they are kept, and whether they are good.

An authority of the environment's own signs Keycloak's, which the cluster alone meets, and with `tls: own-ca` the
gateways' too. Its key stays in a namespace of its own: whoever may read Secrets where a gateway runs, as the gateway
itself may, could otherwise sign for any name. With `tls: given` the gateways' are Secrets that somebody else keeps,
cert-manager for example (docs/tls.md).
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

HOME, AUTHORITY = "runbook-ca", "authority"  # namespace and Secret of the authority
OWN, GIVEN, OFF = "own-ca", "given", "off"  # what `tls` may be
CERTIFICATE, KEY = "tls.crt", "tls.key"  # keys of a Secret of the type kubernetes.io/tls
PREVIOUS = "previous.crt"  # key of the authority's: the certificate of the one before it
_asked: WeakSet[Run] = WeakSet()


def authority(run: Run) -> str:
    """Return the certificate of the environment's own authority, as PEM; "" without TLS."""
    return _authority(run)[CERTIFICATE] if run.params.tls != OFF else ""


def trusted_certificates(run: Run) -> str:
    """Return whom to believe, as PEM: the authority, and the one before it as long as that is good; "" without TLS.

    Both, since what the old one signed is shown until it is changed; and istiod, once it could not fetch keys, waits
    for minutes before it asks again.
    """
    held = _authority(run) if run.params.tls != OFF else {}
    return held.get(CERTIFICATE, "") + held.get(PREVIOUS, "")


def restart_on_ca_change(thing: dict, root: str) -> dict:
    """Return a Deployment whose pods start anew with another authority: they read it, or what it signed, but once."""
    about = thing["spec"]["template"]["metadata"]
    about["annotations"] = {**about.get("annotations", {}), istioctl.AUTHORITY_NOTE: istioctl.authority_digest(root)}
    return thing


def trust(run: Run) -> None:
    """Believe the authority that the cluster has; its file here may be missing, or be that of a cluster from before.

    The cluster is asked once for each Run. Who may not read that Secret goes on with the file.
    """
    if run.params.tls == OFF or run in _asked:
        return
    file = run.params.authority_file
    try:
        found = trusted_certificates(run) if run.cluster.find("v1", "Secret", AUTHORITY, HOME) else ""
    except ClusterError:
        if not file.exists():
            raise
        found = ""
    _asked.add(run)
    if found and (not file.exists() or file.read_text() != found):
        _believe(file, found)


def ensure_authority(run: Run) -> str:
    """Make the environment's own authority on first use, or shortly before its end; return whom to believe."""
    if run.params.tls == OFF:
        return ""
    _given_authority(run.params)  # a file that is not there is told now
    run.apply(run.load("ca-namespace.yaml"))
    held = _find(run, AUTHORITY, HOME)
    why = "none" if not held else certificates.authority_problem(held[CERTIFICATE], held[KEY])
    if why:
        before = certificates.still_good(held[CERTIFICATE] if held else _believed(run))
        _keep(run, AUTHORITY, HOME, *certificates.generate_authority(_name(run)), before)
    elif held.get(PREVIOUS) and not certificates.still_good(held[PREVIOUS]):
        _keep(run, AUTHORITY, HOME, held[CERTIFICATE], held[KEY])
        why = "the one before is no good any more"
    run.changed("Secret", AUTHORITY, "created" if not held else "changed" if why else "unchanged", HOME)
    found = trusted_certificates(run)
    _believe(run.params.authority_file, found)
    run.record.evidence("mesh/ca.pem", found)
    return found


def ensure_certificate(run: Run, name: str, namespace: str, names: list[str]) -> dict[str, str]:
    """Make the Secret with a certificate for these names where there is none that does; return what may be shown of it.

    Made anew is one that is near its end, for other names, or of another authority.
    """
    signer, held = _authority(run), _find(run, name, namespace)
    root, shown = signer[CERTIFICATE], held.get(CERTIFICATE, "")
    why = "none" if not held else certificates.problem(shown, held[KEY], names, root, days=RENEW_DAYS)
    if why:
        shown, key = certificates.issue(root, signer[KEY], names)
        _keep(run, name, namespace, shown, key)
    run.changed("Secret", name, "created" if not held else "changed" if why else "unchanged", namespace)
    return certificates.summary(shown)


def check_given(run: Run, name: str, namespace: str, names: list[str]) -> dict[str, str]:
    """Return what may be shown of the certificate in a Secret of somebody else's; RunbookError where it does not do."""
    held = _find(run, name, namespace)
    wanted = f"a Secret {namespace}/{name} (type kubernetes.io/tls) with a certificate for {', '.join(names)}"
    if not held or not held.get(CERTIFICATE) or not held.get(KEY):
        raise RunbookError(f"expected {wanted}, since tls is given, got none; make it (docs/tls.md).")
    if why := certificates.problem(held[CERTIFICATE], held[KEY], names, _given_authority(run.params), days=1):
        raise RunbookError(f"expected {wanted}, got one that does not do: {why}; make it anew (docs/tls.md).")
    run.changed("Secret", name, "unchanged", namespace)
    return certificates.summary(held[CERTIFICATE])


def _given_authority(here: Params) -> str:
    if not here.given_authority_file:
        return ""
    if not here.given_authority_file.is_file():
        raise RunbookError(f"expected the authority's certificate at {here.ca_file}, found none; mend ca_file.")
    return here.given_authority_file.read_text()


def _name(run: Run) -> str:
    """A new one has a name of its own, so that nobody takes it for the one before."""
    return f"runbook {run.params.env} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


def _authority(run: Run) -> dict[str, str]:
    return run.read_secret(AUTHORITY, HOME, step="02-istio")


def _believed(run: Run) -> str:
    """The Secret is gone: whom istiod believes until now signed what is shown until now."""
    found = run.cluster.find("v1", "ConfigMap", installation.JWKS_CA, installation.ROOT_NAMESPACE) or {}
    return found.get("data", {}).get(installation.JWKS_CA_KEY, "")


def _find(run: Run, name: str, namespace: str) -> dict[str, str]:
    return run.read_secret(name, namespace) if run.cluster.find("v1", "Secret", name, namespace) else {}


def _keep(run: Run, name: str, namespace: str, certificate: str, key: str, before: str = "") -> None:
    run.record.secret(key)
    data = {CERTIFICATE: certificate, KEY: key} | ({PREVIOUS: before} if before else {})
    encoded = {part: base64.b64encode(text.encode()).decode() for part, text in data.items()}
    metadata = {"name": name, "namespace": namespace}
    thing = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls", "data": encoded}
    run.cluster.apply(thing)


def _believe(path: Path, text: str) -> None:
    """Write the certificates for whoever asks from this machine, and trust them here."""
    write_atomic(path, text)
    trust_store.add_file(path)
