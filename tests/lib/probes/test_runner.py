"""Probes sent, asked again where red, and never lost: with ways that are functions."""

import threading
import time

import pytest

from lib.errors import ClusterError
from lib.istio.access_log import Hop, Trail
from lib.probes.model import Probe
from lib.probes.runner import RetryPolicy, Target, run_probes
from lib.probes.tokens.kit import Missing
from lib.probes.transport.messages import Reply
from lib.probes.transport.sockets import TlsAddress

OK = Reply(200, "HTTP/1.1 200 OK", {}, "", 1.0)
RBAC = Reply(403, "HTTP/1.1 403 Forbidden", {}, "RBAC: access denied", 1.0)
SOON = RetryPolicy(streak=2, deadline=0.3, pause=0.01)


class Kit:
    """Every token but the missing one."""

    def token(self, name):
        if name == "missing":
            raise Missing("nobody can make it")
        return f"token-{name}"


def probe(id="B01", **more):
    return Probe(**{"id": id, "title": "a title", "source": "a source", "expect": "200 app", **more})


def answering(*replies):
    """A way that gives these replies in turn, and the last for ever; with what it was asked."""
    left, asked = list(replies), []

    def way(requests):
        asked.extend(requests)
        return [left.pop(0) if len(left) > 1 else left[0] for _ in requests]

    return way, asked


def run(probes, *targets, **more):
    return run_probes(probes, targets, Kit().token, **{"retry": SOON, "nonce": "n", **more})


def target(way, name="figure-2", **more):
    return Target(name, "httpbin.example", {"user": way}, **more)


def test_a_probe_is_asked_of_every_profile_and_a_worlds_only_there():
    way, asked = answering(OK)
    every = [probe(), probe("B02", world="lens")]
    found = run(every, target(way), target(way, "hardened"), target(way, "lens"))
    assert [(one.id, one.profile, one.verdict) for one in found] == [
        ("B01", "figure-2", "pass"),
        ("B01", "hardened", "pass"),
        ("B02", "lens", "pass"),
    ]
    assert {request.label for request in asked} == {"figure-2-B01-n-1", "hardened-B01-n-1", "lens-B02-n-1"}


@pytest.mark.parametrize(
    ("address", "scheme"), [("198.18.0.2:80", "http"), (TlsAddress("198.18.0.2:443", "httpbin.example"), "https")]
)
def test_a_path_may_name_the_scheme_of_the_connection(address, scheme):
    way, asked = answering(OK)
    run([probe(path="{scheme}://{host}/headers")], target(way, address=address))
    assert {one.target for one in asked} == {f"{scheme}://httpbin.example/headers"}


def test_http2_goes_first_and_results_keep_their_order():
    way, asked = answering(OK)
    found = run([probe(), probe("B02", version="HTTP/2")], target(way))
    assert [one.version for one in asked] == ["HTTP/2", "HTTP/1.1"] and [one.id for one in found] == ["B01", "B02"]


def test_what_is_missing_is_skipped_with_the_reason():
    way, asked = answering(OK)
    every = [
        probe(token="missing"),
        probe(headers=["X: {missing}"]),
        probe(caller="sleep"),
        probe(world="lens"),
        probe(how="dance"),
    ]
    found = run(every, target(way))
    assert {one.verdict for one in found} == {"skipped"} and not asked
    assert [one.note for one in found][:2] == ["nobody can make it"] * 2
    assert ["sleep" in found[2].note, "lens" in found[3].note, "dance" in found[4].note] == [True] * 3


def test_a_caller_that_is_missing_is_a_reason_to_skip_and_others_are_asked():
    def nobody(requests):
        raise Missing("no such pod")

    way, _ = answering(OK)
    here = Target("figure-2", "httpbin.example", {"user": way, "node": nobody})
    found = run([probe(), probe("B02", caller="node"), probe("B03", caller="node")], here)
    assert [(one.verdict, one.note) for one in found] == [("pass", ""), *[("skipped", "no such pod")] * 2]


def test_a_red_answer_is_asked_again_until_it_holds():
    way, asked = answering(RBAC, OK, RBAC, OK, OK)
    (one,) = run([probe()], target(way))
    assert (one.verdict, one.tries) == ("pass", 5)
    assert [request.label[-2:] for request in asked] == ["-1", "-2", "-3", "-4", "-5"]


def test_a_request_that_timed_out_twice_is_asked_again_too():
    quick, asked = answering(OK)

    def way(requests):
        if len(asked) < 2:
            time.sleep(0.5)  # longer than SOON's deadline
            quick(requests)
            return [Reply(0, reason="timeout")]
        return quick(requests)

    (one,) = run([probe()], target(way), retry=RetryPolicy(streak=2, deadline=0.4, pause=0))
    assert (one.verdict, one.tries) == ("pass", 4)


def test_only_what_is_not_settled_is_asked_again():
    replies = {"B01": OK, "B02": RBAC}
    asked = []

    def way(requests):
        asked.append([request.label.split("-")[2] for request in requests])
        return [replies[name] for name in asked[-1]]

    good, bad = run([probe("B01"), probe("B02")], target(way))
    assert (good.verdict, good.tries) == ("pass", 1)
    assert (bad.verdict, bad.note) == ("fail", "expected 200 app, got 403 R")
    assert asked[0] == ["B01", "B02"] and set(map(tuple, asked[1:])) == {("B02",)} and bad.tries == len(asked)


def test_what_is_only_measured_is_asked_once():
    way, _ = answering(RBAC)
    (one,) = run([probe(measured=True)], target(way))
    assert (one.verdict, one.got, one.tries) == ("unmeasured", "403 R", 1)


def test_a_baseline_is_by_id_and_profile():
    way, _ = answering(RBAC)
    known = {"B01": {"figure-2": "403 R", "hardened": "200 app"}}
    found = run([probe(measured=True)], target(way), target(way, "hardened"), baseline=known)
    assert [one.verdict for one in found] == ["pass", "fail"]


def test_a_way_that_breaks_makes_its_rows_red_and_leaves_the_others():
    def broken(requests):
        raise ClusterError("no curl; token-good")

    way, _ = answering(OK)
    both = Target("figure-2", "httpbin.example", {"user": way, "sleep": broken})
    good, bad = run([probe(), probe("B02", caller="sleep", token="good")], both)
    assert good.verdict == "pass"
    assert (bad.verdict, bad.got) == ("error", "") and "no curl" in bad.note and "token-good" not in bad.note


def test_a_way_that_breaks_once_is_taken_again():
    left = [ClusterError("not yet")]

    def way(requests):
        if left:
            raise left.pop()
        return [OK for _ in requests]

    (one,) = run([probe()], target(way))
    assert one.verdict == "pass" and one.tries > 1


def test_callers_are_asked_at_once_and_name_the_host_their_way():
    meeting, heard = threading.Barrier(2, timeout=5), []

    def way_of(caller):
        def way(requests):
            meeting.wait()
            heard.extend((caller, request.headers[0]) for request in requests)
            return [OK for _ in requests]

        return way

    ways = {"user": way_of("user"), "sleep": way_of("sleep")}
    here = Target("figure-2", "httpbin.example", ways, {"sleep": "httpbin.foo:8000"})
    found = run([probe(), probe("B02", caller="sleep")], here)
    assert [one.verdict for one in found] == ["pass", "pass"]
    assert set(heard) == {("user", "Host: httpbin.example"), ("sleep", "Host: httpbin.foo:8000")}


def test_the_access_log_is_asked_once_and_joined_by_label():
    way, _ = answering(RBAC)
    asked = []

    def logs(labels):
        asked.append(labels)
        denied = Hop("sidecar", 403, "", "rbac_access_denied_matched_policy[none]", "1", "")
        return {label: Trail(None, denied, "sidecar") for label in labels}

    rows = [probe(expect="403 R"), probe("B02", expect="403 R", caller="sleep")]
    here = Target("figure-2", "httpbin.example", {"user": way, "sleep": way})
    one, other = run(rows, here, logs=logs)
    assert (one.hop, one.details) == ("sidecar", "rbac_access_denied_matched_policy[none]")
    assert asked == [{"figure-2-B01-n-1": True, "figure-2-B02-n-1": False}] and other.verdict == "pass"


def test_a_sequence_is_held_and_held_again():
    answers = [["200 app", "200 app"], ["200 app", "403 R"], ["200 app", "403 R"]]
    seen = []

    def dance(scenario):
        seen.append((scenario.label, scenario.address, scenario.token("good")))
        return answers.pop(0)

    way, _ = answering(OK)
    row = probe(how="dance", expect=["200 app", "403 R"])
    asked = []
    logs = lambda labels: asked.append(labels) or {}  # noqa: E731
    (one,) = run([row], target(way, address="a:1"), scenarios={"dance": dance}, logs=logs)
    assert (one.verdict, one.tries, one.got) == ("pass", 3, "200 app, 403 R")
    assert seen[0] == ("figure-2-B01-n-1", "a:1", "token-good")
    assert asked == [{}]  # what a sequence sends need not be a request that a proxy names


def test_a_sequence_without_its_token_is_skipped_and_one_that_breaks_is_red():
    way, _ = answering(OK)

    def broken(scenario):
        raise OSError("no route")

    scenarios = {"lost": lambda scenario: [scenario.token("missing")], "broken": broken}
    lost, red = run([probe(how="lost"), probe("B02", how="broken")], target(way, address="a:1"), scenarios=scenarios)
    assert (lost.verdict, lost.note) == ("skipped", "nobody can make it")
    assert red.verdict == "error" and "no route" in red.note


def test_tokens_given_out_do_not_come_back_in_results():
    way, _ = answering(Reply(403, "HTTP/1.1 403 No", {}, "you sent token-good"))
    (one,) = run([probe(token="good")], target(way))
    assert "token-good" not in str(one) and "you sent" in one.reason


def test_profiles_come_in_the_probes_order():
    way, _ = answering(OK)
    found = run([probe("B02"), probe("B01")], target(way), target(way, "figure-1"))
    assert [(one.id, one.profile) for one in found] == [
        ("B02", "figure-2"),
        ("B02", "figure-1"),
        ("B01", "figure-2"),
        ("B01", "figure-1"),
    ]
