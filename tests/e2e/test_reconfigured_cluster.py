"""What the params may have otherwise, on a cluster that is there: the database, replicas, Istio's kinds, no TLS.

The environment is an existing cluster's: a kubeconfig, and params beside the ones that made it.
"""

from __future__ import annotations

import re
import shutil
import socket
from contextlib import ExitStack, contextmanager

import pytest
import yaml

from lib import names, params
from lib.crypto import jwt
from lib.keycloak import oidc
from lib.labs.lab import temporary_lab
from lib.labs.notebook import NAMES
from lib.record.events import Record
from lib.run import Run
from lib.steps import authority, endpoints, gateway_tls, keycloak_database, tokens
from tests.support import advice, challenged
from tests.support.runbook import ROOT, kubectl, python, rows, run

pytestmark = pytest.mark.sandbox

NAME, ELSEWHERE = "other-ways", "elsewhere"  # environment, and the namespace of the database
HOST = f"postgres.{ELSEWHERE}.svc.cluster.local"
USER = "sso"  # of that database: its password is made here
NOT_AWS = ("cluster_name", "region", "aws_endpoint_url", "aws_profile", "aws_credentials_file")
ENCRYPTED = "users' tokens and passwords are encrypted on their way"
WAIVER = {"step": "02-istio", "check": ENCRYPTED, "owner": "the tests", "expires": "2099-12-31", "reason": "a test"}
KUBECONFIG = ROOT / ".kube" / "dev"
CONDITIONS = {"the Gateway is accepted and programmed", "the route is accepted, and has its backend"}
NAMESPACES = "jsonpath={.items[*].metadata.namespace}"
SKIPPED = ("", "")  # a request's status and proxy


@pytest.fixture(scope="module")
def way(first):
    """Yield what writes the params of another way; at the end the cluster is again what the first run made it."""
    stated = yaml.safe_load((ROOT / "params" / "dev.yml").read_text())
    kept = {key: value for key, value in stated.items() if key not in NOT_AWS}
    file = ROOT / "params" / f"{NAME}.yml"

    def written(**changed) -> Run:
        file.write_text(yaml.safe_dump({**kept, "env": NAME, "cluster_source": "existing", **changed}))
        return Run(NAME, params.load(NAME), Record())

    yield written
    file.unlink(missing_ok=True)
    shutil.rmtree(ROOT / "outputs" / NAME, ignore_errors=True)
    (ROOT / ".kube" / f"{NAME}-ca.pem").unlink(missing_ok=True)
    code, bundle = run()
    assert code == 0
    assert rows(bundle, "checks.csv")
    istios = kubectl("get", "virtualservices,gateways.networking.istio.io", "-A", "-o", NAMESPACES)
    assert set(istios.split()) <= {names.LOGIN, names.STRANGERS}  # the login, and the probes' second gateway
    assert not kubectl("get", "deployments,services", "-n", "istio-system", "-l", "istio=ingressgateway", "-o", "name")


def lib(*words: str) -> tuple[int, str]:
    done = python("-m", "lib", "run", "--env", NAME, *words, KUBECONFIG=str(KUBECONFIG))
    return done.returncode, done.stdout


@contextmanager
def at_the_cluster(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(KUBECONFIG))
        yield


def postgres(here: Run) -> list[dict]:
    """Return a PostgreSQL that speaks TLS alone, by a certificate of the environment's authority."""
    claim, service, script, server = here.load("postgres.yaml")
    text = script["data"]["start.sh"]
    text = text.replace("--username=keycloak", f"--username={USER}").replace('"host all', '"hostssl all')
    tls = "-c ssl=on -c ssl_cert_file=/tls/tls.crt -c ssl_key_file=/tls/tls.key"
    script["data"]["start.sh"] = text.replace("unix_socket_directories=/tmp", f"unix_socket_directories=/tmp {tls}")
    pod = server["spec"]["template"]["spec"]
    container = pod["containers"][0]
    for probe in ("startupProbe", "readinessProbe"):
        container[probe]["exec"]["command"] = ["pg_isready", "-h", "127.0.0.1", "-U", USER]
    container["volumeMounts"].append({"name": "tls", "mountPath": "/tls", "readOnly": True})
    volumes = {one["name"]: one for one in pod["volumes"]}
    volumes["data"] = {"name": "data", "emptyDir": {}}
    volumes["secret"]["secret"]["secretName"] = "postgres"
    volumes["tls"] = {"name": "tls", "secret": {"secretName": "postgres-tls", "defaultMode": 0o440}}
    pod["volumes"] = list(volumes.values())
    for thing in (service, script, server):
        thing["metadata"]["namespace"] = ELSEWHERE
    return [service, script, server]


@pytest.fixture
def elsewhere(way, monkeypatch, tmp_path):
    """An external database in its own namespace, and the file of its certificate authority."""
    with at_the_cluster(monkeypatch):
        here = way()
        here.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ELSEWHERE}}])
        password = oidc.generate_password()
        here.secret("postgres", ELSEWHERE, password=lambda: password)
        here.secret(keycloak_database.GIVEN, endpoints.KEYCLOAK, username=lambda: USER, password=lambda: password)
        authority.ensure_certificate(here, "postgres-tls", ELSEWHERE, [HOST])
        here.apply(postgres(here))
        here.cluster.wait_rolled_out("StatefulSet", "postgres", ELSEWHERE, here.params.deadline)
        file = tmp_path / "ca.pem"
        file.write_text(authority.trusted_certificates(here))
        yield file
        here.cluster.delete("apps/v1", "Deployment", "keycloak", endpoints.KEYCLOAK)  # its database goes
        here.cluster.delete("v1", "Secret", keycloak_database.GIVEN, endpoints.KEYCLOAK)
        here.cluster.delete("v1", "Namespace", ELSEWHERE)


def answers(bundle) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return each request of the tables with its status and the proxy that answered."""
    keys = ("step", "figure", "probe", "request", "title", "caller", "token")
    return {tuple(row[key] for key in keys): (row["got"], row["hop"]) for row in rows(bundle, "responses.csv")}


def asked(query: str) -> str:
    words = ["exec", "-n", ELSEWHERE, "postgres-0", "--", "psql", "-h", "/tmp", "-U", USER, "-d", "keycloak", "-tAc"]
    return kubectl(*words, query).strip()


def test_two_replicas_share_a_database_elsewhere_that_they_verify(way, elsewhere, monkeypatch):
    url = f"jdbc:postgresql://{HOST}/keycloak?sslmode=verify-full"
    way(keycloak_replicas=2, keycloak_database=url, keycloak_database_ca_file=str(elsewhere))
    for step in ("3", "4"):
        code, said = lib("--only", step)
        assert code == 0, said
    bundle = max((ROOT / "outputs" / NAME).glob("2*"))
    assert rows(bundle, "checks.csv")
    assert asked("select name from realm order by 1").split() == ["istio", "master", "other"]
    theirs = f"from pg_stat_ssl join pg_stat_activity using (pid) where usename = '{USER}' and client_addr is not null"
    assert asked(f"select bool_and(ssl), count(distinct client_addr) {theirs}") == "t|2"
    with at_the_cluster(monkeypatch):
        here = Run(NAME, params.load(NAME), Record())
        assert jwt.claims(tokens.user_token(here))["iss"] == endpoints.issuer(here)


def test_istios_own_kinds_give_the_same_answers(way, first):
    way(gateway_api="istio")
    code, said = lib()
    assert code == 0, said
    bundle = ROOT / re.search(rf"(outputs/{NAME}/\S+)/index.html", said)[1]
    now, before = answers(bundle), answers(first)
    assert now.keys() == before.keys()
    assert not {key: (before[key], now[key]) for key in now if now[key] not in (before[key], SKIPPED)}
    skipped = [key for key, one in now.items() if one == SKIPPED]
    assert len(skipped) < len(now) / 20  # they need the key of the mesh's CA, which is not read on an existing cluster
    names = {row["name"] for row in rows(bundle, "checks.csv")}
    gone = {row["name"] for row in rows(first, "checks.csv") if row["step"] >= "02"} - names
    expected = ("closed ports", "plain HTTP is not answered at")  # of AWS's network; with the address, which is new
    assert {name for name in gone if not name.startswith(expected)} == CONDITIONS  # of the Gateway API
    assert not kubectl("get", "httproutes,gateways.gateway.networking.k8s.io", "-A", "-o", NAMESPACES)
    assert not kubectl("get", "deployments,services", "-n", "istio-ingress", "-o", "name")


@pytest.fixture(scope="module")
def istios(way):
    """The cluster with Istio's own kinds, after the test of its answers."""
    here = way(gateway_api="istio")
    with pytest.MonkeyPatch.context() as patch, at_the_cluster(patch):
        yield here


def test_why_names_the_faults_of_istios_own_kinds_and_its_advice_heals(istios):
    with temporary_lab(istios) as lab:
        for one in (fault for fault in NAMES.values() if fault.gateway_api):
            with ExitStack() as undo, one.injected(lab):
                said = one.why(lab)
                assert said.cause == one.cause, f"{one.name}: {said}"
                _, after = advice.follow(lab, one, said, undo)
            assert advice.healed(one, after), f"{one.name}: {after}"


def test_a_missing_token_is_challenged_behind_istios_own_kinds_too(istios):
    asked = Run(NAME, params.load(NAME, {"missing_token": 401}), Record())
    try:
        challenged.ensure(asked)
        challenged.assert_challenged(asked)
    finally:
        challenged.ensure(istios)


def test_without_tls_the_run_is_red_where_nobody_answers_for_it(way):
    way(tls="off")
    code, said = lib("--only", "2")
    assert code == 1 and "tls: off sends passwords and tokens in plain text" in said


def test_without_tls_all_else_is_as_it_should_be(way, monkeypatch):
    way(tls="off", waivers=[WAIVER])
    code, said = lib()
    assert code == 0, said
    bundle = ROOT / re.search(rf"(outputs/{NAME}/\S+)/index.html", said)[1]
    others = [row for row in rows(bundle, "checks.csv") if row["verdict"] != "pass"]
    skipped = [row for row in others if row["verdict"] == "skipped"]
    assert {row["step"] for row in skipped} == {"13-browser-login", "14-log-out"}  # a browser's session needs https
    assert all("tls: off" in row["reason"] for row in skipped)
    (waived,) = [row for row in others if row not in skipped]
    assert (waived["name"], waived["verdict"]) == (ENCRYPTED, "waived")
    assert "waived by the tests until 2099-12-31: a test" in (bundle / "index.html").read_text()
    with at_the_cluster(monkeypatch):
        here = Run(NAME, params.load(NAME), Record())
        assert endpoints.issuer(here).startswith("http:") and gateway_tls.port(here) == 80
        for host in (endpoints.keycloak_host(here), endpoints.gateway_host(here)):
            with pytest.raises(OSError):
                socket.create_connection((host, 443), 2)
