"""The runbook's own mesh as what the probes ask: its workloads, the ways there, its tokens, its access logs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

import pandas as pd

from lib.errors import RunbookError
from lib.istio import access_log, installation, proxy
from lib.kubernetes.cluster import Execute
from lib.probes import model, workloads
from lib.probes.model import HARDENED, Probe
from lib.probes.reporting import baselines
from lib.probes.reporting.drawing import ISSUER
from lib.probes.reporting.results import UNMEASURED, Result
from lib.probes.runner import Logs, Target, run_probes
from lib.probes.scenarios import fixtures, peers, rotation, sessions, token_endpoint, waiting
from lib.probes.scenarios.requests import DRILLS, Drill
from lib.probes.tokens.catalogue import Kit
from lib.probes.tokens.issued import minted
from lib.probes.tokens.keys import SigningKey
from lib.probes.transport.curl import over_curl
from lib.probes.transport.sockets import over_sockets
from lib.record import evidence, verdicts
from lib.run import Run
from lib.steps import endpoints, realm

MARGIN = 2  # seconds by which this machine's clock and the pods' may differ


def ask(run: Run, *names: str, probes: Sequence[Probe] = ()) -> list[Result]:
    """Send the probes to each named profile or world, and record every result; a red one turns the step red.

    Without `probes` all of the tables are sent; those of worlds that are not named are left out.
    """
    wanted = [probe for probe in probes or model.load() if probe.world in names or not probe.world]
    inside, began = workloads.callers_inside(run), time.monotonic()
    targets = [target(run, name, inside) for name in names]
    found = run_probes(
        wanted, targets, kit(run), baseline=baseline(run), logs=_logs(run, names, began), drills=_drills(run, wanted)
    )
    run.fact("addresses", addresses(run, *names))
    for one in found:
        _keep(run, one)
    return found


def addresses(run: Run, *names: str) -> dict[str, str]:
    """Return the issuer's URL, and by profile or world the gateway's host:port through which it is asked."""
    places = {name: workloads.place(run, name).address for name in names if name != fixtures.WORLD}
    return {ISSUER: endpoints.issuer(run), **{name: str(address) for name, address in places.items() if address}}


def keep_evidence(run: Run, *profiles: str) -> pd.DataFrame:
    """Keep what Envoy enforces for each profile, at its gateway and its workload, and what the peers show as theirs.

    Returns a table: the proxy, its file of listeners, its file of certificates.
    """
    shared = {"ingressgateway": (installation.ingress_selector(run.cluster), installation.ROOT_NAMESPACE)}
    places = shared | {workloads.PROFILES[name]: workloads.pods(run, name) for name in profiles}
    places |= {"hardened-gateway": ("istio=hardened-gateway", HARDENED)} if HARDENED in profiles else {}
    rows = []
    for name, (labels, home) in places.items():
        execute, base = run.cluster.execute(labels, home, access_log.PROXY), f"mesh/{run.step[:2]}-{name}"
        run.record.evidence(f"{base}.listeners.json", evidence.listeners(execute))
        run.record.evidence(f"{base}.certificates.pem", evidence.chain(execute))
        rows.append({"proxy": name, "listeners": f"{base}.listeners.json", "certificates": f"{base}.certificates.pem"})
    run.fact("images", evidence.images(run.cluster.items("v1", "Pod")))
    return pd.DataFrame(rows)


def hold(run: Run) -> list[Result]:
    """Hold the drills that wait, in a world of their own that is gone afterwards; record every result.

    The name of each is printed as it begins. It takes about five minutes, and stops istiod and Keycloak meanwhile:
    RunbookError with a cluster that others may use.
    """
    if run.params.cluster_source == "existing":
        raise RunbookError(
            "expected a cluster that the runbook made, got an existing one: these probes stop its istiod and Keycloak; "
            "use an environment with cluster_source: eks."
        )
    known = baseline(run)
    with rotation.world(run, endpoints.keycloak_admin(run)) as world:
        found = waiting.hold(model.load(waiting.FOLDER), world, print, known)
    for one in found:
        _keep(run, one)
    return found


def target(run: Run, name: str, inside: Mapping[str, Execute]) -> Target:
    """Return the workload of a profile or world, and how each caller gets there; `inside` runs commands in pods."""
    if name == fixtures.WORLD:
        return Target(name, name, {model.USER: lambda requests: []}, address="none")
    place = workloads.place(run, name)
    ways = {model.USER: over_sockets(place.address)} if place.address else {}
    ways |= {caller: over_curl(execute, place.url) for caller, execute in inside.items()}
    hosts = dict.fromkeys(inside, urlsplit(place.url).netloc)
    return Target(name, place.host, ways, hosts, place.address, workloads.CANARY, name not in workloads.UNLOGGED)


def kit(run: Run) -> Kit:
    """Return where the probes' tokens come from: Keycloak, the key that it was given, and forgers."""
    mint = minted(run)
    published = endpoints.published_keys(run)
    return Kit(
        good=mint("good"),
        minted=mint,
        jwks=published,
        own=SigningKey.from_pem(run.read_secret(realm.KEY, endpoints.KEYCLOAK)["key"]),
        attacker=SigningKey.generate(),
        issuer=endpoints.issuer(run),
        audience=run.params.client_id,
        now=time.time,
        canary=workloads.CANARY,
    )


def baseline(run: Run) -> baselines.Answers:
    """Return what the measured probes answered before with these versions of Istio, Envoy and Keycloak."""
    return baselines.known(versions(run))


def versions(run: Run) -> str:
    """Return the triple of versions that a baseline is for."""
    execute = run.cluster.execute(
        installation.ingress_selector(run.cluster), installation.ROOT_NAMESPACE, access_log.PROXY
    )
    keycloak = run.cluster.pod("app=keycloak", endpoints.KEYCLOAK)["spec"]["containers"][0]["image"].rpartition(":")[2]
    return baselines.triple(run.params.istio_tag, proxy.envoy_version(execute), keycloak)


def _drills(run: Run, wanted: Sequence[Probe]) -> Mapping[str, Callable[[Drill], list[str]]]:
    """Those of Keycloak are made ready only where a probe asks for one: they have a realm of their own."""
    names, found = {probe.how for probe in wanted}, {**DRILLS, **peers.drills(run)}
    if names & token_endpoint.DRILLS.keys():
        found |= token_endpoint.drills(fixtures.endpoint(run, endpoints.keycloak_admin(run)))
    if names & sessions.DRILLS.keys():
        found |= sessions.drills(fixtures.sessions(run, endpoints.keycloak_admin(run)))
    return found


def _logs(run: Run, names: Sequence[str], began: float) -> Logs:
    """What the gateways and the sidecars wrote since `began`: read until all that was asked is there."""
    gateways = [(installation.ingress_selector(run.cluster), installation.ROOT_NAMESPACE)]
    gateways += [("istio=hardened-gateway", HARDENED)] if HARDENED in names else []
    sidecars = {workloads.pods(run, name) for name in names if name not in (fixtures.WORLD, "naked")}

    def hops(places, name: str) -> dict[str, access_log.Hop]:
        since = int(time.monotonic() - began) + MARGIN
        found = [access_log.fetch(run.cluster, labels, home, since, name) for labels, home in places]
        return {label: hop for one in found for label, hop in one.items()}

    def read(labels: set[str]) -> Mapping[str, access_log.Trail]:
        def both() -> dict[str, access_log.Trail]:
            return access_log.join(hops(gateways, access_log.GATEWAY), hops(sidecars, access_log.SIDECAR))

        return access_log.wait_for(both, labels)

    return read


def _keep(run: Run, one: Result) -> None:
    """Record a result; one that has nothing to be compared with counts as skipped."""
    verdict = verdicts.SKIPPED if one.verdict == UNMEASURED else one.verdict
    row = {key: value for key, value in vars(one).items() if key not in ("id", "profile", "family", "verdict", "note")}
    about = {**row, "probe": one.id, "figure": one.profile}
    name = f"{one.profile}: {one.id} {one.title}"
    run.keep(name, one.expected, one.got, verdict, 0.0, one.tries, one.note, about)
