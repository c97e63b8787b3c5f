"""Redaction removes every form of a secret and keeps ordinary words."""

import base64
import html
import json
from urllib.parse import quote

import pytest

from lib.crypto.jwt import fingerprint
from lib.redact import clean, cleaned, forbidden
from tests.support.tiny import TOKEN

SECRET = 'p"ss wörd/<x>&+'


def test_a_token_becomes_its_fingerprint():
    assert clean(f"got {TOKEN}, then") == f"got [jwt sha256:{fingerprint(TOKEN)}], then"
    assert forbidden(TOKEN) and not forbidden(clean(TOKEN))


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {TOKEN}",
        json.dumps(json.dumps({"Authorization": [f"Bearer {TOKEN}"]})),
        f"'access_token': '{TOKEN.split('.')[0]}",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE+abc/=\n-----END RSA PRIVATE KEY-----",
        json.dumps("-----BEGIN PRIVATE KEY-----\nMIIE+abc/=\n-----END PRIVATE KEY-----"),
        "-----BEGIN PRIVATE KEY-----\nMIIE+abc/=\nMIIE+abc/",
        "k8s-aws-v1.aHR0cHM6Ly9zdHMuYW1hem9uYXdzLmNvbS9abc-_",
        "Authorization: Basic YWxpY2U6MIIE+abc/=",
        '{"Authorization": ["Basic YWxpY2U6MIIE+abc/="]}',
        "authorization: Bearer MIIE+abc/=MIIE+abc/=",
        "https://sts/?X-Amz-Signature=abcdef0123456789MIIE+abc/=abcdef",
        '{"SecretAccessKey": "wJalrXUtnFEMI/MIIE+abc/=bPxRfiCYEXAMPLEKEY"}',
        "aws_secret_access_key = wJalrXUtnFEMIMIIE+abc/=bPxRfiCYEXAMPLEKEY",
        "grant_type=password&password=MIIE+abc/=123&x=1",
        '{"type": "password", "secret": "MIIE+abc/=1234"}',
    ],
)
def test_shapes_go_without_being_known(text):
    once = clean(text)
    assert "MIIE+abc/" not in once and "eyJ" not in once and "aHR0cHM6" not in once
    assert clean(once) == once


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
        quote(SECRET, safe=""),
        json.dumps(SECRET),
        html.escape(SECRET),
    ],
)
def test_known_secrets_go_in_every_form(form):
    assert "[redacted]" in clean(f"it is {form}.", {SECRET})
    assert SECRET[-9:] not in clean(f"it is {form}.", {SECRET})


def test_the_longer_secret_goes_first():
    assert clean("abcdefghi", {"abcdef", "abcdefghi"}) == "[redacted]"


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer $TOKEN",
        '{"Authorization": ["Bearer undefined"]}',
        "kind: AuthorizationPolicy, a bearer token, basic authentication",
        "forwardOriginalToken: true; keyJ; password: see the Secret keycloak-admin",
        "secret: {secretName: keycloak}",
        "arn:aws:eks:us-east-1:000000000000:cluster/runbook",
    ],
)
def test_words_stay(text):
    assert clean(text, {"", "abc"}) == text


def test_at_any_depth():
    assert cleaned({"a": [{"hunter2hunter2": ("hunter2hunter2", 1, None)}]}, {"hunter2hunter2"}) == {
        "a": [{"[redacted]": ["[redacted]", 1, None]}]
    }
