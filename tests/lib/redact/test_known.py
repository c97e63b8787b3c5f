"""A secret that the run reported goes in each encoding that pages, shells and protocols use."""

import base64
import html
import json
import time
import unicodedata
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from markupsafe import escape

from lib.redact import clean

SECRET = "p\"ss wörd/<x>&+'$`!"
LINES = "line-one-secret-1\nline-two-secret-2\nline-three-secret-3\n"
FORMS = {
    "hexadecimal": SECRET.encode().hex(),
    "hexadecimal, upper case": SECRET.encode().hex().upper(),
    "a path of a URL": quote(SECRET, safe="/"),
    "a URL in lower case": quote(SECRET, safe="").lower(),
    "JSON in JSON": json.dumps(json.dumps(SECRET)),
    "JSON for HTML": json.dumps(SECRET).replace("<", "\\u003c"),
    "HTML without quotes": html.escape(SECRET, quote=False),
    "the pages' HTML": str(escape(SECRET)),
    "JSON in HTML": str(escape(json.dumps(json.dumps(SECRET)))),
    "decomposed": unicodedata.normalize("NFD", SECRET),
    "upper case": SECRET.upper(),
    "two lines": f"{SECRET[:8]}\n{SECRET[8:]}",
    "colours": f"{SECRET[:5]}\x1b[31m{SECRET[5:]}",
    "zero width": f"{SECRET[:5]}\u200b{SECRET[5:]}",
    "base64": base64.b64encode(SECRET.encode()).decode(),
    "base64url": base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    "Basic": base64.b64encode(f"alice:{SECRET}".encode()).decode(),
    "Basic, shifted": base64.b64encode(f"al:{SECRET}".encode()).decode(),
    "a shell's quotes": "'" + SECRET.replace("'", "'\"'\"'") + "'",
    "a shell's other quotes": "'" + SECRET.replace("'", "'\\''") + "'",
    "Python": repr(SECRET),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_known_secret_goes(form):
    text = clean(f"it is {FORMS[form]} here", {SECRET})
    assert "[redacted]" in text and "rd/" not in text.lower() and text.endswith(" here")


@pytest.mark.parametrize(
    "text", [LINES.strip(), LINES.replace("\n", "\r\n"), LINES.replace("\n", "\n    "), "a line-two-secret-2 b"]
)
def test_a_secret_of_several_lines_goes_line_by_line(text):
    assert "secret-" not in clean(text, {LINES})


@pytest.mark.parametrize("end", ["…", "...", "", '"'])
def test_a_secret_that_was_cut_off_goes(end):
    assert clean(f"got Xk9-abcdefgh-ijkl{end}", {"Xk9-abcdefgh-ijklmnop-qrstuv"}) == f"got [redacted]{end}"


@pytest.mark.parametrize("bytes_of_serial", [18, 19, 20])  # the public key begins at another place of a base64 group
@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)])
@pytest.mark.parametrize("form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL])
def test_the_certificate_of_a_known_key_stays_whole(key, form, bytes_of_serial):
    pem = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kc")])
    now = datetime(2026, 1, 31, tzinfo=UTC)
    stated = x509.CertificateBuilder(name, name, key.public_key(), 1 << (8 * bytes_of_serial - 2), now, now)
    certificate = stated.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()
    assert clean(certificate, {pem}) == certificate
    private = pem.splitlines()[-8:-2] if isinstance(key, rsa.RSAPrivateKey) else pem.splitlines()[1:3]
    assert all(clean(f"see {line} there", {pem}) == "see [redacted] there" for line in private)


def test_a_certificate_beside_a_key_stays():
    certificate = "-----BEGIN CERTIFICATE-----\nMIIBabcdefghijklmnop\n-----END CERTIFICATE-----\n"
    assert clean(certificate, {f"a-very-secret-line-1\n{certificate}"}) == certificate


@pytest.mark.parametrize("secret", ["a" * 70_000, "ab" * 35_000, "p4ss-" * 14_000])
def test_a_long_secret_that_repeats_itself_costs_seconds_and_goes_wherever_it_was_cut(secret):
    start = time.process_time()
    assert clean(f"it is {secret} here", {secret}) == "it is [redacted] here"
    assert clean(f"it is {secret[:300]}…", {secret}) == "it is [redacted]…"
    assert time.process_time() - start < 60  # it took 10 minutes and more
