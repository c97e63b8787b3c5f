"""The cluster's certificates: made once, renewed in time, refused where somebody else's do not do."""

import datetime

import pytest

from lib import params
from lib.crypto import certificates, trust_store
from lib.crypto.certificates import covers
from lib.errors import ClusterError, RunbookError
from lib.istio import installation
from lib.record.events import Record
from lib.run import Run
from lib.steps import authority, gateway_tls
from tests.support.little_cluster import IMAGES, Cluster

ENV = "of-the-pkis-tests"
HOST = "198.18.0.2"
LONG_AGO = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=70)


@pytest.fixture
def cluster():
    yield Cluster()
    file = params.ROOT / ".kube" / f"{ENV}-ca.pem"
    file.unlink(missing_ok=True)
    trust_store.add_file(file)


def new_run(cluster, **changed):
    values = params.Params(env=ENV, cluster_source="existing", **IMAGES, **changed)
    run = Run("03-keycloak", values, Record())
    run.cluster = cluster
    return run


def actions(run):
    return [(row["name"], row["action"]) for row in run.changes if row["kind"] == "Secret"]


def test_a_second_run_changes_nothing(cluster):
    for expected in ("created", "unchanged"):
        run = new_run(cluster)
        authority.ensure_authority(run)
        authority.ensure_certificate(run, "keycloak-tls", "keycloak", [HOST])
        assert actions(run) == [("authority", expected), ("keycloak-tls", expected)]
    problem = certificates.problem(
        cluster.certificate("keycloak-tls", "keycloak"), "", [HOST], authority.authority(run)
    )
    assert problem == ""


def test_the_key_stays_in_its_namespace_and_out_of_the_record(cluster):
    run = new_run(cluster)
    root = authority.ensure_authority(run)
    gateway_tls.gateway_certificate(run, "istio-system", [HOST])
    key = run.read_secret(authority.AUTHORITY, authority.HOME)[authority.KEY]
    assert [home for _, home, name in cluster.kept if name == "authority"] == [authority.HOME]
    assert key in run.record.secrets and "PRIVATE KEY" not in str(run.record.events)
    assert run.params.authority_file.read_text() == root and "PRIVATE" not in root


def test_another_address_and_a_near_end_make_a_new_certificate_and_the_authority_stays(cluster):
    run = new_run(cluster)
    root = authority.ensure_authority(run)
    authority.ensure_certificate(run, "keycloak-tls", "keycloak", [HOST])
    run = new_run(cluster)
    authority.ensure_certificate(run, "keycloak-tls", "keycloak", ["198.18.0.3"])
    assert actions(run) == [("keycloak-tls", "changed")]
    assert covers(cluster.certificate("keycloak-tls", "keycloak"), "198.18.0.3")
    signer = run.read_secret(authority.AUTHORITY, authority.HOME)[authority.KEY]
    cluster.put("keycloak-tls", "keycloak", *certificates.issue(root, signer, [HOST], LONG_AGO))
    run = new_run(cluster)
    authority.ensure_certificate(run, "keycloak-tls", "keycloak", [HOST])
    assert actions(run) == [("keycloak-tls", "changed")]
    assert authority.ensure_authority(new_run(cluster)) == root


def test_an_authority_near_its_end_is_replaced_with_all_it_signed_and_trusted_until_it_expires(cluster):
    old = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=certificates.AUTHORITY_DAYS - 10)
    cluster.put(authority.AUTHORITY, authority.HOME, *certificates.generate_authority("old", old))
    before = cluster.certificate(authority.AUTHORITY, authority.HOME)
    run = new_run(cluster)
    assert authority.ensure_authority(run) == authority.authority(run) + before and authority.authority(run) != before
    signer = certificates.generate_authority("x")[1]
    cluster.put("keycloak-tls", "keycloak", *certificates.issue(before, signer, [HOST]))
    authority.ensure_certificate(run, "keycloak-tls", "keycloak", [HOST])
    assert actions(run) == [("authority", "changed"), ("keycloak-tls", "changed")]
    run = new_run(cluster)
    assert authority.ensure_authority(run) == authority.trusted_certificates(run) and actions(run) == [
        ("authority", "unchanged")
    ]


def test_an_expired_authority_is_no_longer_trusted(cluster):
    run = new_run(cluster)
    authority.ensure_authority(run)
    held = run.read_secret(authority.AUTHORITY, authority.HOME)
    over = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=certificates.AUTHORITY_DAYS + 1)
    before, _ = certificates.generate_authority("old", over)
    authority._put(run, authority.AUTHORITY, authority.HOME, held[authority.CERTIFICATE], held[authority.KEY], before)
    run = new_run(cluster)
    assert authority.ensure_authority(run) == held[authority.CERTIFICATE] and actions(run) == [("authority", "changed")]


def test_without_the_authoritys_secret_the_one_that_istiod_trusts_stays_trusted(cluster):
    before = authority.ensure_authority(new_run(cluster))
    cluster.kept.pop(("Secret", authority.HOME, authority.AUTHORITY))
    cluster.kept["ConfigMap", installation.ROOT_NAMESPACE, installation.JWKS_CA] = {
        "kind": "ConfigMap", "data": {installation.JWKS_CA_KEY: before},
    }  # fmt: skip
    run = new_run(cluster)
    assert authority.ensure_authority(run).endswith(before) and authority.authority(run) != before


def test_another_machine_trusts_the_clusters_authority(cluster):
    before = authority.ensure_authority(new_run(cluster))
    file = new_run(cluster).params.authority_file
    file.unlink()
    assert gateway_tls.scheme(new_run(cluster)) == "https" and file.read_text() == before


def test_the_file_of_a_cluster_from_before_is_replaced(cluster):
    file = new_run(cluster).params.authority_file
    file.write_text(certificates.generate_authority("of a cluster that is gone")[0])
    held = certificates.generate_authority("of this one")
    cluster.put(authority.AUTHORITY, authority.HOME, *held)
    run = new_run(cluster)
    gateway_tls.scheme(run)
    assert file.read_text() == held[0]
    cluster.kept.clear()  # nobody is asked a second time
    gateway_tls.scheme(run)
    assert file.read_text() == held[0]


def test_who_may_not_read_the_authoritys_secret_goes_on_with_the_file(cluster):
    before = authority.ensure_authority(new_run(cluster))

    def forbidden(*_):
        raise ClusterError("expected the right to read it, got 403")

    cluster.find = forbidden
    assert gateway_tls.scheme(new_run(cluster)) == "https"
    file = new_run(cluster).params.authority_file
    assert file.read_text() == before
    file.unlink()
    run = new_run(cluster)
    for _ in range(2):  # it is asked again as long as nobody is believed
        with pytest.raises(ClusterError):
            gateway_tls.scheme(run)


def test_given_certificates_are_checked_and_never_created(cluster, tmp_path):
    root, key = certificates.generate_authority("theirs")
    file = tmp_path / "ca.pem"
    file.write_text(root)
    run = new_run(cluster, tls="given", ca_file=str(file))
    asked = (run, "istio-system", ["gw.example.org"])
    with pytest.raises(RunbookError, match="istio-system/gateway-tls .* for gw.example.org.*got none"):
        gateway_tls.gateway_certificate(*asked)
    cluster.put("gateway-tls", "istio-system", *certificates.issue(root, key, ["other.example.org"]))
    with pytest.raises(RunbookError, match="not for gw.example.org"):
        gateway_tls.gateway_certificate(*asked)
    theirs = certificates.issue(root, key, ["gw.example.org"])
    cluster.put("gateway-tls", "istio-system", *theirs)
    assert gateway_tls.gateway_certificate(*asked)["issuer"] == "CN=theirs"
    assert actions(run) == [("gateway-tls", "unchanged")]
    assert cluster.certificate("gateway-tls", "istio-system") == theirs[0]
    stranger = certificates.generate_authority("stranger")
    cluster.put("gateway-tls", "istio-system", *certificates.issue(*stranger, ["gw.example.org"]))
    with pytest.raises(RunbookError, match="not signed under the authority"):
        gateway_tls.gateway_certificate(*asked)


def test_a_file_of_an_authority_that_is_not_there(cluster):
    with pytest.raises(RunbookError, match="found none; correct the param ca_file"):
        authority.ensure_authority(new_run(cluster, tls="given", ca_file="/nowhere/ca.pem"))


def test_without_tls_nothing_is_made_and_a_check_is_red(cluster):
    run = new_run(cluster, tls="off")
    assert authority.ensure_authority(run) == "" and gateway_tls.gateway_certificate(run, "x", [HOST]) == {}
    gateway_tls.check(run)
    assert [check.verdict for check in run.checks] == ["fail"] and "waive it" in run.checks[0].reason
    assert cluster.kept == {} and gateway_tls.scheme(run) == "http"
    (gateway,) = gateway_tls.with_tls_setting(run.load("gateway.yaml"), run)
    assert [one["port"]["protocol"] for one in gateway["spec"]["servers"]] == ["HTTP"]
    things = gateway_tls.with_tls_setting(run.load("hardened/gateway.yaml"), run)
    assert "8443" not in str(things) and "HTTPS" not in str(things)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"ca_file": "x"}, "ca_file is for tls: given"),
        ({"tls": "none"}, "tls"),
        ({"keycloak_host": "https://kc"}, "keycloak_host"),
        (
            {
                "acm_certificate_arn": "arn:aws:acm:us-east-1:123456789012:certificate/x",
                "load_balancer_controller": "in-tree",
            },
            "needs keycloak_host and gateway_host",
        ),
    ],
)
def test_params_that_do_not_fit(changed, words):
    with pytest.raises(ValueError, match=words):
        params.Params(env=ENV, cluster_source="existing", **IMAGES, **changed)
