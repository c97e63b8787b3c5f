"""What is kept besides the checks: objects without Secrets, listeners without keys, certificates as they are."""

import base64
import json
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from lib.errors import IstioError
from lib.record import evidence
from lib.record.events import Record
from tests.support.tiny import TOKEN


def certificate(*uris):
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])
    now = datetime(2026, 1, 31, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 7, now, now + timedelta(1))
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        made = made.add_extension(names, critical=True)
    return made.sign(key, SHA256()).public_bytes(Encoding.PEM)


def proxy(**pages):
    """Return a proxy whose config dump has these resources."""
    return lambda argv, stdin: (json.dumps({"configs": pages[argv[-1].partition("resource=")[2]]}), 0)


def source(pem):
    return {"inline_bytes": base64.b64encode(pem).decode()}


class Cluster:
    def __init__(self, *things):
        self.things = {(one["apiVersion"], one["kind"], one["metadata"]["name"]): one for one in things}

    def items(self, *where):
        names = lambda one: (one["apiVersion"], one["kind"], one["metadata"].get("namespace"))  # noqa: E731
        return [one for one in self.things.values() if names(one) == where]


def test_objects_are_kept_as_the_api_has_them_but_never_a_secret():
    own = {"name": "httpbin", "namespace": "foo", "uid": "1", "managedFields": [{}]}
    thing = {"apiVersion": "v1", "kind": "Service", "metadata": own, "spec": {"clusterIP": "10.0.0.1"}}
    hidden = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"password": "aHVudGVyMg=="}}
    keys = [("v1", "Service", "foo", "httpbin"), ("v1", "Secret", "foo", "s"), ("v1", "Service", "foo", "gone")]
    (kept,) = yaml.safe_load_all(evidence.live(Cluster(thing, hidden), keys))
    assert kept == {**thing, "metadata": {"name": "httpbin", "namespace": "foo", "uid": "1"}}


def test_the_schema_of_a_definition_is_kept_as_its_digest_which_changes_with_it():
    def kept(schema):
        version = {"name": "v1", "served": True, "schema": schema}
        spec = {"group": "security.istio.io", "versions": [version]}
        thing = {"apiVersion": "v1", "kind": "CustomResourceDefinition", "metadata": {"name": "it"}, "spec": spec}
        (found,) = yaml.safe_load_all(evidence.live(Cluster(thing), [("v1", "CustomResourceDefinition", None, "it")]))
        (now,) = found["spec"].pop("versions")
        assert found["spec"] == {"group": "security.istio.io"} and now | {"schema": schema} == version
        return now["schema"]

    first, second, third = kept({"a": 1, "b": 2}), kept({"b": 2, "a": 1}), kept({"a": 1})
    assert first == second != third and first.startswith("sha256:")


def test_only_the_listeners_that_enforce_are_kept():
    ours = {"name": "virtualInbound", "active_state": {"listener": {"filters": ["jwt_authn"]}}}
    other = {"name": "virtualOutbound", "active_state": {"listener": {}}}
    gone = {"name": "0.0.0.0_8443", "draining_state": {"listener": {}}}
    kept = json.loads(evidence.listeners(proxy(dynamic_listeners=[other, ours, gone])))
    assert kept == {"virtualInbound": {"filters": ["jwt_authn"]}}
    with pytest.raises(IstioError, match="expected a listener among .*, got virtualOutbound"):
        evidence.listeners(proxy(dynamic_listeners=[other]))


def test_certificates_are_kept_with_their_names_and_without_the_key():
    leaf, root = certificate("spiffe://cluster.local/ns/foo/sa/sleep"), certificate()
    key = {"inline_bytes": "cHJpdmF0ZQ=="}
    own = {"tls_certificate": {"certificate_chain": source(leaf + root), "private_key": key}}
    held = [{"secret": own}, {"secret": {"validation_context": {"trusted_ca": source(root)}}}]
    text = evidence.chain(proxy(dynamic_active_secrets=held))
    assert "# shown: spiffe://cluster.local/ns/foo/sa/sleep; valid 2026-01-31T00:00:00Z to 2026-02-01" in text
    assert [line.split(":")[0] for line in text.splitlines() if line.startswith("#")] == ["# shown"] * 2 + ["# trusted"]
    assert len(x509.load_pem_x509_certificates(text.encode())) == 3 and "cHJpdmF0ZQ" not in text


def test_images_are_told_by_digest():
    state = {"image": "istio/pilot:1", "imageID": "docker.io/istio/pilot@sha256:abc"}
    pods = [{"status": {"containerStatuses": [state, {"image": "not-yet", "imageID": ""}]}}, {"status": {}}]
    assert evidence.images(pods) == {"istio/pilot:1": "sha256:abc"}


def test_a_file_of_the_bundle_is_redacted_and_its_sum_is_an_event(tmp_path):
    (tmp_path / "events").mkdir()
    record = Record(tmp_path / "events" / "01-a.jsonl")
    record.secret("hunter2hunter2")
    pem = certificate().decode().replace("\n", "\n", 1)
    record.evidence("mesh/a.pem", f"{pem}password hunter2hunter2 {TOKEN}\n")
    text = (tmp_path / "mesh" / "a.pem").read_text()
    assert text.startswith(pem) and "hunter2" not in text and "[jwt sha256:" in text
    assert record.events[-1]["file"] == "mesh/a.pem" and len(record.events[-1]["sha256"]) == 64


def test_a_certificate_that_has_a_tokens_beginning_by_chance_stays_whole():
    from lib.redact import clean, forbidden

    pem = "-----BEGIN CERTIFICATE-----\nMIIBeyJhbGciOiJub25lIn0AA\n-----END CERTIFICATE-----\n"
    assert clean(pem) == pem and forbidden(pem) == ""
    token = "eyJhbGciOiJub25lIn0"
    assert clean(pem + token).startswith(f"{pem}[jwt sha256:") and forbidden(pem + token)
