"""Before anything is made: does this Istio go with this Kubernetes, and does anybody mend it still?"""

from types import SimpleNamespace

import pytest

from lib import params
from lib.errors import AwsError
from lib.planning import preflight
from lib.record import verdicts
from lib.record.events import Record
from lib.run import Run
from tests.support.stated import IMAGES


def run(istio_tag, kubernetes="1.36", server=""):
    values = {"env": "made-up", "istio_tag": istio_tag, "kubernetes_version": kubernetes, "istioctl": "/no/istioctl"}
    made = Run(
        "00-start-here", params.Params(**values, cluster_source="existing" if server else "eks", **IMAGES), Record()
    )
    made.aws = sts_alone
    if server:
        made.cluster = SimpleNamespace(version=lambda: server, ready=lambda: True)
    preflight.check(made)
    return {check.name: check for check in made.checks if "Istio 1." in check.name}


def sts_alone(service):
    if service != "sts":
        raise AwsError("expected AWS, got none; there is only STS here.")
    return SimpleNamespace(get_caller_identity=lambda: {"Account": "1", "Arn": "arn:a", "UserId": "u"})


@pytest.mark.parametrize(
    ("istio_tag", "kubernetes", "server", "fits"),
    [
        ("1.31.1", "1.36", "", True),
        ("1.31-eed52ebb66ad", "1.36", "", True),
        ("1.31.1", "1.31", "", False),
        ("1.30.4", "1.37", "", False),
        ("1.31.1", "1.20", "v1.35.4-eks-1", True),
        ("1.31.1", "1.36", "v1.30.2", False),
    ],
)
def test_an_istio_that_is_not_made_for_the_kubernetes_is_refused_with_the_reason(istio_tag, kubernetes, server, fits):
    found = run(istio_tag, kubernetes, server)
    check = found[f"Istio {istio_tag[:4]} is made for the cluster's Kubernetes"]
    assert check.red is not fits
    assert fits or "change istio_tag or the cluster's version" in check.reason


def test_an_istio_that_nobody_mends_any_more_is_refused():
    assert run("1.29.9", "1.35")["Istio 1.29 gets fixes"].red
    assert not run("1.31.1")["Istio 1.31 gets fixes"].red


def test_an_istio_without_data_gives_no_finding():
    (check,) = run("1.99.0").values()
    assert check.verdict == verdicts.SKIPPED and "knows nothing of Istio 1.99" in check.reason


@pytest.mark.parametrize(("program", "place"), [("no-istioctl", "on PATH"), ("/no/istioctl", "an executable file")])
def test_without_istioctl_one_sentence_says_what_to_install_and_what_to_set(program, place):
    values = {"env": "made-up", "cluster_source": "existing", "istio_tag": "1.31.1", "istioctl": program}
    made = Run("00-start-here", params.Params(**values, **IMAGES), Record())
    made.cluster = SimpleNamespace(version=lambda: "v1.36.0", ready=lambda: True)
    preflight.check(made)
    first, second = made.checks[:2]
    sentence = f"{program} is not {place}. Install istioctl 1.31.1, or set `istioctl` in params/made-up.yml to its path"
    assert (first.name, first.expected, first.actual, first.reason) == (
        "istioctl is there",
        "True",
        "not there",
        sentence,
    )
    assert (second.expected, second.actual, second.reason) == ("1.31.1", "not there", sentence)
