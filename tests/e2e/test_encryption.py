"""Users' way is TLS all along: who shows what, who may read what, and that a certificate is changed under way."""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import ssl
import subprocess

import pytest
from cryptography import x509

from lib import names, params
from lib.crypto import certificates, trust_store
from lib.http_client import over_http
from lib.istio import installation
from lib.keycloak import browser_login, oidc, representations
from lib.polling import until
from lib.probes import workloads
from lib.record.events import Record
from lib.run import Run
from lib.steps import authority, endpoints
from lib.steps import keycloak as steps_keycloak
from tests.support.runbook import KUBECTL, ROOT, kubectl, rows, run

pytestmark = pytest.mark.sandbox
CA = ROOT / ".kube" / "dev-ca.pem"
ADMINISTRATION = (
    "/admin/realms", "/admin/realms/istio/users", "//admin/", "/resources/../admin/", "/realms/istio/../../admin/",
    "/realms/istio/..%2f..%2fadmin/", "/realms/master;x=1/account",
)  # fmt: skip
MASTER = (
    "/realms/master/protocol/openid-connect/token", "/realms/mast%65r", "/realms/istio/%2e%2e/master",
    "/realms//master", "/realms/a\\..\\master",
)  # fmt: skip


@pytest.fixture(scope="module")
def here(first):
    return Run("encryption", params.load("dev"), Record())


@pytest.fixture(scope="module")
def edges(here):
    """Each address at which users ask, with the name that its certificate is for."""
    gateway = workloads.hardened_gateway(here)
    own = endpoints.load_balancer_address(here, gateway, "12-figure-1")
    names = [
        (endpoints.keycloak_host(here), endpoints.keycloak_host(here)),
        (endpoints.gateway_host(here), endpoints.gateway_host(here)),
    ]
    return [*names, (own, "httpbin-hardened.example")]


def shown(address, name, **limits) -> tuple[str, x509.Certificate]:
    """Return the TLS version that was agreed on, and the certificate; verified by the authority's file alone."""
    context = ssl.create_default_context(cafile=str(CA))
    for key, value in limits.items():
        setattr(context, key, value)
    plain = socket.create_connection((address, 443), 5)
    with plain, context.wrap_socket(plain, server_hostname=name) as secure:
        return secure.version(), x509.load_der_x509_certificate(secure.getpeercert(binary_form=True))


def test_each_certificate_is_verified_by_the_file_that_users_are_given(edges):
    for address, name in edges:
        assert shown(address, name)[0] == "TLSv1.3"
        assert shown(address, name, maximum_version=ssl.TLSVersion.TLSv1_2)[0] == "TLSv1.2"


def test_curl_and_openssl_agree(edges):
    for address, name in edges:
        words = ["openssl", "s_client", "-connect", f"{address}:443", "-CAfile", CA, "-verify_return_error"]
        asked = [] if name == address else ["-servername", name]
        done = subprocess.run([*words, *asked], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20)
        assert "Verify return code: 0 (ok)" in done.stdout, done.stderr


def test_older_versions_are_refused(edges):
    """OpenSSL itself would not offer them, so its security level is lowered."""
    for address, name in edges:
        context = ssl.create_default_context(cafile=str(CA))
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection((address, 443), 5) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(plain, server_hostname=name)


def test_nothing_is_answered_in_clear_but_a_redirect(here, edges):
    keycloak, gateway, hardened = (address for address, _ in edges)
    assert [over_http(f"http://{one}/headers", timeout=2).status for one in (keycloak, hardened)] == [0, 0]
    sent = over_http(f"http://{gateway}/headers?x=1", token="x.y.z")
    assert (sent.status, sent.headers["location"]) == (301, f"https://{gateway}/headers?x=1")


def test_a_gateway_reads_no_secrets_but_keycloaks_reads_its_own(here):
    """Or whoever breaks into a gateway has the administrator's password, and an authority to sign with.

    istiod gives a gateway its certificate. Keycloak's gateway also needs the CA that it verifies Keycloak by.
    """
    gateways = (endpoints.ingress_gateway(here), endpoints.keycloak_gateway(here), workloads.hardened_gateway(here))
    accounts = {one.namespace: installation.ingress(here.cluster, one)["account"] for one in gateways}
    for home, account in accounts.items():
        for namespace in (*accounts, "keycloak", authority.HOME, "foo"):
            who = f"--as=system:serviceaccount:{home}:{account}"
            said = kubectl("auth", "can-i", "list", "secrets", "-n", namespace, who, check=False)
            expected = "yes" if namespace == home == names.KEYCLOAK_EDGE else "no"
            assert said.strip() == expected, (account, namespace)


def test_the_administration_is_not_public_whatever_it_is_called(here):
    url = endpoints.keycloak_url(here)
    for path in ADMINISTRATION:
        answer = over_http(f"{url}{path}")
        assert answer.status in (400, 404) and answer.headers.get("server") == "istio-envoy", path
        assert "x-envoy-upstream-service-time" not in answer.headers, path  # it did not come to Keycloak
    unknown = endpoints.keycloak_session(here).get(f"{endpoints.inside_url(here)}/not-public", timeout=10)
    for path in MASTER:  # the route asks Keycloak for this path instead
        answer = over_http(f"{url}{path}")
        assert (answer.status, answer.body) == (unknown.status_code, unknown.text) and answer.status == 404, path
    assert over_http(f"{url}/realms/istio/.well-known/openid-configuration").status == 200


def test_the_console_is_there_for_who_may_forward_a_port(here):
    """As docs/tls.md says: kubectl forwards it, its certificate is for localhost, and the administrator gets in."""
    known = here.read_secret(endpoints.ADMIN, endpoints.KEYCLOAK)
    with forwarded("keycloak", "deploy/keycloak", 8443):
        page = oidc.direct_session().get(f"{steps_keycloak.CONSOLE}/admin/master/console/", timeout=10)
        assert page.status_code == 200 and f'"{steps_keycloak.CONSOLE}"' in page.text.replace("\\/", "/")
        browser = browser_login.Browser(f"{steps_keycloak.CONSOLE}/realms/master")
        verifier = browser_login.generate_verifier()
        challenge = {"code_challenge": browser_login.challenge(verifier), "code_challenge_method": "S256"}
        back = f"{steps_keycloak.CONSOLE}/admin/master/console/"
        assert browser.code("security-admin-console", back, known["username"], known["password"], **challenge)


@contextlib.contextmanager
def forwarded(namespace, what, port):
    environment = {**os.environ, "KUBECONFIG": str(ROOT / ".kube" / "dev")}
    words = [KUBECTL, "-n", namespace, "port-forward", "--address=127.0.0.1", what, str(port)]
    kind = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, env=environment, **kind) as process:
        try:
            listens = lambda: socket.create_connection(("127.0.0.1", port), 1).close() is None  # noqa: E731
            assert until(listens, bool, deadline=20).held
            yield
        finally:
            process.terminate()


def test_keycloak_is_told_who_asked_and_believes_no_client_about_that(here, first):
    """The login's address in Keycloak's event is the one that the gateway saw, whatever the client writes."""
    keycloak, realm, session = endpoints.keycloak_admin(here), here.params.realm, oidc.direct_session()
    session.headers["X-Forwarded-For"] = "203.0.113.9"
    secret = here.read_secret(f"client-{realm}-{here.params.client_id}", endpoints.KEYCLOAK)["client-secret"]
    password = here.read_secret(f"user-{here.params.user}", endpoints.KEYCLOAK)["password"]
    endpoint = f"{endpoints.issuer(here)}/protocol/openid-connect/token"
    keycloak.ensure_realm(representations.realm(realm, eventsEnabled=True))
    try:
        oidc.password_token(endpoint, here.params.client_id, secret, here.params.user, password, session=session)
        (event,) = keycloak.get(f"/{realm}/events", type="LOGIN", max="1")
    finally:
        keycloak.ensure_realm(representations.realm(realm, eventsEnabled=False))
    pods = {pod["status"]["podIP"] for pod in here.cluster.items("v1", "Pod", names.KEYCLOAK_EDGE)}
    assert event["ipAddress"] not in {"203.0.113.9", "127.0.0.1", *pods}  # nor the gateway's own


def test_a_certificate_near_its_end_is_made_anew_and_shown_without_a_restart(here, edges):
    address = endpoints.gateway_host(here)
    labels, home = endpoints.ingress_selector(here)
    uid = lambda: here.cluster.pod(labels, home)["metadata"]["uid"]  # noqa: E731
    before, pod = shown(address, address)[1], uid()
    signer = here.read_secret(authority.AUTHORITY, authority.HOME)
    long_ago = before.not_valid_before_utc - datetime.timedelta(days=70)
    old = certificates.issue(signer[authority.CERTIFICATE], signer[authority.KEY], [address], long_ago)
    authority._put(here, "gateway-tls", home, *old)
    code, bundle = run("--only", "07")
    assert code == 0
    made = [row["action"] for row in rows(bundle, "changes.csv") if row["name"] == "gateway-tls"]
    assert made == ["changed"]
    fresh = lambda: shown(address, address)[1].not_valid_after_utc  # noqa: E731
    assert until(fresh, lambda end: end >= before.not_valid_after_utc, deadline=30).held
    assert uid() == pod


def test_with_a_new_authority_all_is_made_anew_and_istiod_believes_it(here, edges):
    before = CA.read_text()
    kubectl("delete", "secret", authority.AUTHORITY, "-n", authority.HOME)
    for step in ("02", "03", "06", "07"):
        assert run("--only", step)[0] == 0, step
    assert CA.read_text() != before
    trust_store.add_file(CA)
    workloads.wait_hardened(here)
    for address, name in edges:
        assert until(lambda a=address, n=name: shown(a, n)[0], lambda got: got == "TLSv1.3", deadline=60).held
    for step in ("10", "13", "14"):  # what kept the old authority lets nobody in, or refuses no ended session
        assert run("--only", step)[0] == 0, step
