"""Sends the probes to the runbook's own mesh: its workloads, transports, tokens and access logs."""

from __future__ import annotations

import textwrap
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from IPython.display import Pretty

from lib.errors import RunbookError
from lib.istio import access_log, proxy
from lib.kubernetes.cluster import Execute
from lib.kubernetes.rest import Object
from lib.parallel import at_once
from lib.polling import until
from lib.probes import challenge, model, workloads
from lib.probes.model import HARDENED, Probe
from lib.probes.reporting import baselines, results
from lib.probes.reporting.drawing import ISSUER
from lib.probes.reporting.results import Result
from lib.probes.runner import Logs, Target, run_probes
from lib.probes.scenarios import fixtures, peers, rotation, sessions, token_endpoint, waiting, ways_in
from lib.probes.scenarios.requests import SCENARIOS, Scenario
from lib.probes.tokens.catalogue import ISSUED, TOKENS
from lib.probes.tokens.issued import issued_tokens
from lib.probes.tokens.keys import SigningKey
from lib.probes.tokens.kit import Kit, NamedToken
from lib.probes.transport.curl import over_curl
from lib.probes.transport.messages import masked_request, prepare
from lib.probes.transport.sockets import over_sockets
from lib.record import evidence
from lib.redact import clean
from lib.run import Run
from lib.steps import end_user_policy, endpoints, realm

LOGGED = 3  # seconds to wait for the lines of two proxies: each Envoy writes its lines once a second
ADMINISTRATOR = "master"  # a token: Keycloak refuses one of two logins of its administrator at once
MARGIN = 2  # seconds: this machine's clock and the pods' clocks may differ by so much


def ask(run: Run, *names: str, probes: Sequence[Probe] = (), known: Kit | None = None) -> list[Result]:
    """Send the probes to each named profile or world, and record every result; a red one turns the step red.

    By default all probes of the tables are sent, with the tokens of this mesh's kit; `known` is another kit. Probes of
    worlds that `names` does not list are left out.
    """
    wanted = [probe for probe in probes or model.load() if probe.world in names or not probe.world]
    wanted = challenge.of_probes(wanted) if _challenged(run) else wanted
    strangers = any(probe.caller in (workloads.STRANGER, workloads.NODE) for probe in wanted)
    executors, began = workloads.callers_inside(run, strangers), time.monotonic()
    jobs: list[Callable[[], Any]] = [
        lambda: [target(run, name, executors) for name in names],
        lambda: _with_tokens(known or kit(run), wanted),
        lambda: challenge.of_baseline(baseline(run), wanted) if _challenged(run) else baseline(run),
        lambda: _scenarios(run, wanted),
    ]
    targets, tokens, answers, scenarios = at_once(jobs)
    logs = _logs(run, names, began)
    found = run_probes(wanted, targets, tokens.token, baseline=answers, logs=logs, scenarios=scenarios)
    run.fact("addresses", addresses(run, *names))
    for one in found:
        keep(run, one)
    return found


def show_probe(run: Run, id: str, profile: str) -> Pretty:
    """Send one probe of a user outside, once, and return its request, reply and access log lines for display.

    Tokens are shown by name and fingerprint. Nothing is recorded: `ask` does that for all probes.

    Args:
        run: The step's run.
        id: A probe that is one HTTP request, such as "D40".
        profile: The profile whose workload gets the request.
    """
    probe = next(probe for probe in model.load() if probe.id == id)
    (probe,) = challenge.of_probes([probe]) if _challenged(run) else [probe]
    there, token, began = workloads.location(run, profile), kit(run).token, time.monotonic()
    label = f"example-{id}-{uuid.uuid4().hex[:8]}"
    request = prepare(probe, token, there.host, label)
    (reply,) = over_sockets(there.address)([request])
    complete = lambda found: bool(found) and ("via_upstream" not in found[0] or len(found) > 1)  # noqa: E731
    lines = until(lambda: _lines_of(run, profile, label, began), complete, deadline=LOGGED).value
    parts = {
        f"{probe.id}, {probe.title}, sent to {there.address}": masked_request(probe, token, there.host, label).text,
        f"Reply: {reply.answer}, expected {probe.expected(profile)}": reply.text,
        "Access log": "\n".join(clean(line) for line in lines or []),
    }
    return Pretty("\n\n".join(f"{title}\n{textwrap.indent(text, '    ')}" for title, text in parts.items()))


def addresses(run: Run, *names: str) -> dict[str, str]:
    """Return the issuer's URL as `issuer`, and the gateway's host:port of each profile or world."""
    known = {name: workloads.location(run, name).address for name in names if name != fixtures.WORLD}
    return {ISSUER: endpoints.issuer(run), **{name: str(address) for name, address in known.items() if address}}


def keep_evidence(run: Run, *profiles: str) -> pd.DataFrame:
    """Keep as evidence the Envoy listeners and peer certificates of each profile's gateway and workload.

    Returns:
        A table: the proxy, its file of listeners, its file of certificates.
    """
    shared = {"ingressgateway": endpoints.ingress_selector(run)}
    selectors = shared | {workloads.PROFILES[name]: workloads.pod_selector(run, name) for name in profiles}
    selectors |= {"hardened-gateway": ("istio=hardened-gateway", HARDENED)} if HARDENED in profiles else {}
    rows = []
    for name, (labels, home) in selectors.items():
        execute, base = run.cluster.execute(labels, home, access_log.PROXY), f"mesh/{run.step[:2]}-{name}"
        run.record.evidence(f"{base}.listeners.json", evidence.listeners(execute))
        run.record.evidence(f"{base}.certificates.pem", evidence.chain(execute))
        rows.append({"proxy": name, "listeners": f"{base}.listeners.json", "certificates": f"{base}.certificates.pem"})
    run.fact("images", evidence.images(run.cluster.items("v1", "Pod")))
    return pd.DataFrame(rows)


def run_waiting(run: Run) -> list[Result]:
    """Run the waiting scenarios in a temporary world, and record every result.

    Prints the name of each scenario as it begins. Takes about five minutes, and stops istiod and Keycloak for a while.

    Raises:
        RunbookError: The cluster is an existing one, which others may use.
    """
    if run.params.cluster_source == "existing":
        raise RunbookError(
            "Refusing to stop istiod and Keycloak of an existing cluster, which these probes do. "
            "Run them in an environment with `cluster_source: eks`."
        )
    known = baseline(run)
    with rotation.mesh_world(run, endpoints.keycloak_admin(run)) as world:
        found = waiting.run_scenarios(model.load(waiting.FOLDER), world, print, known)
    for one in found:
        keep(run, one)
    return found


def target(run: Run, name: str, executors: Mapping[str, Execute]) -> Target:
    """Return a profile's or world's workload as a target; `executors` run commands in the callers' pods."""
    if name == fixtures.WORLD:
        return Target(name, name, {model.USER: lambda requests: []}, address="none")
    there = workloads.location(run, name)
    transports = {model.USER: over_sockets(there.address)} if there.address else {}
    transports |= {caller: over_curl(execute, there.url) for caller, execute in executors.items()}
    hosts = dict.fromkeys(executors, urlsplit(there.url).netloc)
    return Target(name, there.host, transports, hosts, there.address, workloads.CANARY, name not in workloads.UNLOGGED)


def kit(
    run: Run,
    catalogue: Mapping[str, NamedToken] = TOKENS,
    issue: Callable[[str], str] | None = None,
    good: str = "good",
) -> Kit:
    """Return the kit of this mesh: tokens that Keycloak issues, and the realm key that step 04 imported.

    `good` is the good token's name for `issue`, which gives tokens of `catalogue` that Keycloak issues.
    """
    issue = issue or issued_tokens(run)
    published = endpoints.published_keys(run)
    return Kit(
        catalogue=catalogue,
        good=issue(good),
        issued=issue,
        jwks=published,
        own=SigningKey.from_pem(run.read_secret(realm.KEY, endpoints.KEYCLOAK)["key"]),
        attacker=SigningKey.generate(),
        issuer=endpoints.issuer(run),
        audience=run.params.client_id,
        now=time.time,
        canary=workloads.CANARY,
    )


def _challenged(run: Run) -> bool:
    return run.params.missing_token == end_user_policy.CHALLENGED


def _with_tokens(known: Kit, wanted: Sequence[Probe]) -> Kit:
    """Let Keycloak issue the tokens of these probes at once; return their kit, which then gives them without a wait."""

    def issue(name: str) -> None:
        with suppress(RunbookError):  # the probe that needs it reports why
            known.issued(name)

    names = {probe.token for probe in wanted} & ISSUED.keys() - {ADMINISTRATOR}
    at_once([partial(issue, name) for name in names])
    return known


def baseline(run: Run) -> baselines.Answers:
    """Return the baseline answers of the measured probes for this mesh's versions of Istio, Envoy and Keycloak."""
    return baselines.known(versions(run))


def versions(run: Run) -> str:
    """Return the versions of Istio, Envoy and Keycloak as the baselines name them."""
    execute = run.cluster.execute(*endpoints.ingress_selector(run), access_log.PROXY)
    keycloak = run.cluster.pod("app=keycloak", endpoints.KEYCLOAK)["spec"]["containers"][0]["image"].rpartition(":")[2]
    return baselines.triple(run.params.istio_tag, proxy.envoy_version(execute), keycloak)


def _scenarios(run: Run, wanted: Sequence[Probe]) -> Mapping[str, Scenario]:
    """Return the scenarios. Keycloak's are prepared only if a probe needs them: they use a realm of their own."""
    names, found = {probe.how for probe in wanted}, {**SCENARIOS, **peers.scenarios(run), **ways_in.scenarios(run)}
    if names & token_endpoint.SCENARIOS.keys():
        found |= token_endpoint.scenarios(fixtures.endpoint(run, endpoints.keycloak_admin(run)))
    if names & sessions.SCENARIOS.keys():
        found |= sessions.scenarios(fixtures.sessions(run, endpoints.keycloak_admin(run)))
    return found


def _logs(run: Run, names: Sequence[str], began: float) -> Logs:
    """Return a reader of the gateways' and sidecars' logs since `began`, which waits for all requests' lines."""
    sidecars = {workloads.pod_selector(run, name) for name in names if name not in (fixtures.WORLD, "naked")}

    def pods(selectors: Iterable[tuple[str, str]]) -> list[Object]:
        return [pod for labels, home in selectors for pod in access_log.running(run.cluster, labels, home)]

    def hops(pods: Iterable[Object], name: str) -> dict[str, access_log.Hop]:
        since = int(time.monotonic() - began) + MARGIN
        return access_log.read(access_log.lines_of(run.cluster, pods, since), name)

    def read(labels: Mapping[str, bool]) -> Mapping[str, access_log.Trail]:
        at_gateways, at_sidecars = pods(_gateways(run, names)), pods(sidecars)

        def both() -> dict[str, access_log.Trail]:
            return access_log.join(hops(at_gateways, access_log.GATEWAY), hops(at_sidecars, access_log.SIDECAR))

        held = max(map(access_log.flush, [*at_gateways, *at_sidecars]), default=0.0)
        return access_log.wait_for(both, labels, held)

    return read


def _lines_of(run: Run, profile: str, label: str, began: float) -> list[str]:
    """Return the log lines of one request, the gateway's first; each begins with its proxy's name."""
    proxies = [("gateway", *_gateways(run, [profile])[-1]), ("sidecar", *workloads.pod_selector(run, profile))]
    since = int(time.monotonic() - began) + MARGIN
    lines = [(name, access_log.raw_lines(run.cluster, labels, home, since)) for name, labels, home in proxies]
    return [f"{name}: {line}" for name, found in lines for line in found if label in line]


def _gateways(run: Run, names: Iterable[str]) -> list[tuple[str, str]]:
    """Return labels and namespaces of the gateways that lead to these profiles and worlds."""
    shared = [endpoints.ingress_selector(run)]
    return shared + ([("istio=hardened-gateway", HARDENED)] if HARDENED in names else [])


def keep(run: Run, one: Result) -> None:
    """Record a result. An unmeasured one counts as skipped."""
    about = results.to_row(one)
    verdict, note = about.pop("verdict"), about.pop("note")
    name = f"{one.profile}: {one.id} {one.title}"
    run.keep(name, one.expected, one.got, verdict, 0.0, one.tries, note, about)
