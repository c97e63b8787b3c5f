"""Each fault, injected on the sandbox: `why` names its cause, its advice heals, and docs/why.md has the answer.

The test writes the rows of that page, as it sees them, to outputs/why.md.
"""

from __future__ import annotations

import re
from contextlib import ExitStack

import pytest
import yaml

from lib import params
from lib.crypto import jwt
from lib.labs.changes import PATIENCE
from lib.labs.lab import APP, FRIEND, HOST, NAMESPACE, NO_SIDECAR, URL, temporary_lab
from lib.legacy import translate
from lib.polling import wait
from lib.record.events import Record
from lib.run import Run
from lib.steps import endpoints, tokens
from tests.support import advice
from tests.support.faults import EVERY
from tests.support.runbook import ROOT, python

pytestmark = pytest.mark.sandbox
PAGE = ROOT / "docs" / "why.md"
ROW = re.compile(
    r"^\| (?P<name>[^|]+) \| (?P<answer>[^|]+) \| `(?P<cause>[^`]+)` \| [^|]+ \| (?P<tried>[^|]+) \|", re.MULTILINE
)


@pytest.fixture(scope="module")
def lab(first):
    with temporary_lab(Run("why", params.load("dev"), Record())) as made:
        yield made


@pytest.fixture(scope="module")
def rows():
    found: list[str] = []
    yield found
    (ROOT / "outputs" / "why.md").write_text("\n".join(found) + "\n")


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.name.replace(" ", "-"))
def test_why_names_the_cause_of_each_fault_and_its_advice_heals(lab, rows, one):
    one = one.form(lab.run.params.gateway_api)
    with ExitStack() as undo, one.injected(lab):
        found = one.why(lab)
        print(found)
        assert found.cause == one.cause
        assert lab.good_token not in str(found)
        tried, after = advice.follow(lab, one, found, undo)
    rows.append(f"| {one.name} | {answered(found)} | `{found.cause}` | {plain(lab, found.why)} | {tried} |")
    assert advice.healed(one, after), str(after)
    page = {row["name"]: (row["answer"], row["tried"]) for row in ROW.finditer(PAGE.read_text())}
    assert page[one.name] == (answered(found), tried)


def answered(found) -> str:
    """Return the answer of a diagnosis as the page has it: status and words, or why there was none."""
    said = found.refused
    if said.startswith("no answer"):
        return said.partition(",")[0]
    return re.search(r": (\d{3}.*)", said)[1].partition(". ")[0]


def plain(lab, text: str) -> str:
    """Return a text with names for what is another with each run."""
    for host, name in ((endpoints.keycloak_host(lab.run), "keycloak"), (endpoints.gateway_host(lab.run), "gateway")):
        text = text.replace(host, name)
    text = re.sub(r"\b[\w-]{43}\b", "<kid>", re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<sub>", text))
    return re.sub(r"\d+ s\b", "… s", re.sub(r"\d+\.\d+\.\d+\.\d+(:\d+)?", "<ip>", text))


def test_the_command_says_the_same(lab, tmp_path):
    token = tmp_path / "token"
    token.write_text(tokens.user_token(lab.run, client_id="no-audience"))
    words = ["-m", "lib", "why", "--env", "dev", lab.url, "--host", HOST]
    done = python(*words, "--token-file", str(token))
    assert done.returncode == 0 and "why: the token has no audience (aud), and the policy requires istio" in done.stdout
    assert token.read_text() not in done.stdout + done.stderr
    plain = python("-m", "lib", "why", "--env", "dev", URL, "--from", NO_SIDECAR)
    assert "has no sidecar and sends plain text" in plain.stdout
    missing = python("-m", "lib", "why", "--env", "dev", URL, "--from", "nobody")
    assert missing.returncode == 2 and "No running pod app=nobody" in missing.stderr


OLD = """
apiVersion: authentication.istio.io/v1alpha1
kind: Policy
metadata: {{name: web, namespace: {home}}}
spec:
  targets: [{{name: {app}}}]
  peers: [{{mtls: {{}}}}]
  origins: [{{jwt: {{issuer: "{issuer}", jwksUri: "{keys}", audiences: [istio], triggerRules: {triggers}}}}}]
  principalBinding: USE_ORIGIN
"""


@pytest.fixture
def translated(lab):
    """Put an old policy in the place of the lab's own, translated."""

    def put(triggers: str) -> None:
        issuer, keys = endpoints.issuer(lab.run), endpoints.jwks_uri(lab.run)
        old = OLD.format(home=NAMESPACE, app=APP, issuer=issuer, keys=keys, triggers=triggers)
        for thing in lab.policies():
            lab.delete(thing)
        for one in translate([yaml.safe_load(old), *lab.workload()[1:2]]):
            if one.manifest:
                lab.apply([one.manifest])

    yield put
    lab.heal()


def settled(lab, wanted, *asked, **options):
    status = lambda: lab.ask(*asked, **options).refused  # noqa: E731
    wait(f"{wanted} for {options}", status, lambda said: f": {wanted}" in said, deadline=PATIENCE)


def test_the_articles_policy_translated_does_what_it_did(lab, translated):
    translated("[]")
    settled(lab, 403, None)
    settled(lab, 403, None, caller=FRIEND)
    settled(lab, 200, lab.good_token)
    settled(lab, 200, lab.good_token, caller=FRIEND)
    settled(lab, 401, jwt.tampered(lab.good_token))
    settled(lab, 403, tokens.user_token(lab.run, client_id="no-audience"))
    assert lab.ask(lab.good_token, caller=NO_SIDECAR).cause == "plain-text"


def test_a_trigger_rule_translated_demands_a_token_on_its_paths_alone(lab, translated):
    translated('[{excludedPaths: [{prefix: "/status/"}]}]')
    settled(lab, 403, None)
    free = lab.url.replace("/headers", "/status/204")
    settled(lab, 204, None, url=free)
    settled(lab, 401, jwt.tampered(lab.good_token), url=free)  # today: a bad token is refused on every path
