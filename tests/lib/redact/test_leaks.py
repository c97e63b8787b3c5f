"""Secrets that the run did not report go by their shape or by their name, in every encoding."""

import base64
import gzip
import html
import json
from functools import cache
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from markupsafe import escape

from lib.redact import clean, forbidden

OPAQUE = "opaqueTok3nValue9876543210"
SIGNATURE = "c2lnbmF0dXJlLXRoYXQtaXMtbG9uZy1lbm91Z2gtMTIz" * 3


def encoded(text):
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def signed(header, payload):
    return f"{encoded(header)}.{encoded(payload)}.{SIGNATURE}"


TOKEN = signed('{"alg":"RS256","kid":"abcdefgh"}', '{"iss":"https://k/realms/istio","sub":"alice","exp":1700000000}')
PARTS = (TOKEN[10:30], TOKEN[70:90], SIGNATURE[8:40], SIGNATURE[-20:])


def wrapped(text, between="\n", width=64):
    return between.join(text[at : at + width] for at in range(0, len(text), width))


def base64_of(text):
    return base64.b64encode(text.encode()).decode()


def gone(text, *parts):
    """Check that no part is left, that what is clean stays as it is, and that `verify` would have found it."""
    once = clean(text)
    assert not [part for part in parts if part in once]
    assert clean(once) == once and forbidden(once) == ""
    assert forbidden(text)


@pytest.mark.parametrize(
    "text",
    [
        *(TOKEN.replace(".", dot) for dot in (".\n", "%2E", "%2e", "\\u002e", "\\x2e", "&#46;", "&#x2e;", "&period;")),
        *(wrapped(TOKEN, between) for between in ("\n", "\r\n", "\n    ", "\\\n", "\n> ", '"\n    "', "\\n")),
        *(wrapped(TOKEN, between, 50) for between in ("\x1b[31m", "\x1b[0m", "\u200b", "\u00ad", "\\u001b[31m")),
        f'{TOKEN[:50]}<span class="x">{TOKEN[50:]}</span>',
        f"{TOKEN[:5]}\n{TOKEN[5:]}",
        "".join(f"%{byte:02X}" for byte in TOKEN.encode()),
        json.dumps(json.dumps(wrapped(TOKEN))),
        html.escape(json.dumps({"a": wrapped(TOKEN)})),
    ],
)
def test_a_token_goes_whole_however_it_is_split_and_escaped(text):
    gone(text, *PARTS, "%4A%68")


@pytest.mark.parametrize("space", [" ", "\n", "\r\n", "\t", "  "])
@pytest.mark.parametrize("before", ["", " "])
def test_white_space_in_its_json_hides_no_token(space, before):
    token = signed(f'{before}{{{space}"alg": "RS256"}}', f'{before}{{{space}"sub": "alice"}}')
    gone(f"a {token} b", token[10:30], PARTS[2])


@pytest.mark.parametrize("text", [TOKEN, f"Authorization: Bearer {TOKEN}", json.dumps({"password": "x9z"})])
@pytest.mark.parametrize(
    "encode", [base64_of, encoded, lambda text: wrapped(base64_of(text)), lambda text: text.encode().hex()]
)
def test_an_encoding_hides_nothing(text, encode):
    gone(f"a: {encode(text)}\nb: c", encode(text)[:16], encode(text)[-16:])


NAMES = [
    "token", "id_token", "access_token", "refresh_token", "clientSecret", "client_secret", "client-secret",
    "db_password", "adminPassword", "session_token", "KEYCLOAK_SESSION", "api_key", "x-api-key", "privateKey",
    "code_verifier", "client_assertion", "session_id", "registrationAccessToken", "bindCredential",
]  # fmt: skip
WRITTEN = {
    "JSON": lambda name: json.dumps({name: OPAQUE}),
    "JSON in JSON": lambda name: json.dumps(json.dumps({name: OPAQUE})),
    "a list in JSON": lambda name: json.dumps({name: [OPAQUE]}),
    "a dict": lambda name: repr({name: OPAQUE}),
    "pairs": lambda name: repr([(name, OPAQUE), ("a", "b")]),
    "YAML": lambda name: f"a: b\n{name}: {OPAQUE}\nc: d",
    "an environment": lambda name: f"{name.upper().replace('-', '_')}={OPAQUE}\nB=c",
    "a header": lambda name: f"GET / HTTP/1.1\nX-{name}: {OPAQUE}\nA: b",
    "a query": lambda name: f"GET /x?a=b&{name}={OPAQUE}&c=d",
    "an option": lambda name: f"x --{name} {OPAQUE} y",
    "an option with =": lambda name: f"x --{name}={OPAQUE} y",
    "XML": lambda name: f"<a><{name}>{OPAQUE}</{name}></a>",
    "HTML": lambda name: html.escape(json.dumps({name: OPAQUE})),
    "the pages' HTML": lambda name: str(escape(json.dumps({name: OPAQUE}))),
    "a URL": lambda name: quote(json.dumps({name: OPAQUE}), safe=""),
}


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("name", NAMES)
def test_a_value_goes_by_its_name(name, written):
    gone(WRITTEN[written](name), OPAQUE)


@pytest.mark.parametrize("name", ["password", "PGPASSWORD", "KC_DB_PASSWORD", "db_password", "adminPassword"])
@pytest.mark.parametrize("value", ["x1y2", "$ecret1q", "hunter", 'p"q[r(s', "p\\q'z", "two words here"])
def test_a_password_goes_whatever_it_looks_like(name, value):
    gone(json.dumps({name: value}), value[1:] if value.isalnum() else "q" if "q" in value else "words")
    gone(f"{name}: {value}\nnext: 1", value.split()[-1])
    gone(f"export {name}={value.replace(' ', '_')}\nB=c", value.replace(" ", "_")[1:])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Cookie: KEYCLOAK_IDENTITY=opaque1; AUTH_SESSION_ID=abc.node", "opaque1 abc.node"),
        ("Set-Cookie: AUTH_SESSION_ID=abc.def; Path=/; HttpOnly", "abc.def"),
        ('{"headers": {"Cookie": "a=opaque1; b=c9d"}}', "opaque1 c9d"),
        ("{'set-cookie': 'KC_RESTART=opaque1; Version=1; Path=/realms'}", "opaque1"),
        ("('Authorization', 'Basic YWxpY2U6cHc=')", "YWxp"),
        ("Basic YWxpY2U6cHc=", "YWxp"),
        ("Authorization: Basic YTpi", "YTpi"),
        ("Authorization%3A%20Basic%20YWxpY2U6cHc%3D", "YWxp"),
        ("Bearer%20opaqueTok3nValue9876543210", "opaqueTok3n"),
        ("Authorization: ApiKey opaque1", "opaque1"),
        ("Authorization: DPoP opaque1", "opaque1"),
        ("curl -H 'Authorization: Token opaque1' https://x", "opaque1"),
        ("curl -u alice:x9z https://k", "x9z"),
        ("postgresql://u:x9z@db/kc", "x9z"),
        ("postgresql://u:p@ss%2Fx9z@db/kc", "x9z p@ss"),
        ("redis://:x9z@h:6379", "x9z"),
        ("jdbc:postgresql://db/kc?user=kc&password=x9z&ssl=true", "x9z"),
        ("Server=db;User Id=kc;Password=x9z;Ssl=1", "x9z"),
        ("host=db user=kc password=x9z dbname=kc", "x9z"),
        ('{"type": "secret", "value": "x9z"}', "x9z"),
        ('{"credentials": [{"type": "password", "userLabel": "My", "value": "x9z", "temporary": false}]}', "x9z"),
        ("- name: KC_DB_PASSWORD\n  value: x9z\n- name: A\n  value: legible", "x9z"),
        ('[{"name": "DB_PASSWORD", "value": "x9z"}]', "x9z"),
        ('{"value": "x9z", "name": "DB_PASSWORD"}', "x9z"),
        (
            "apiVersion: v1\ndata:\n  username: YWxpY2U=\n  other: eDl6eDl6\nkind: Secret\nmetadata:\n  name: x\n",
            "YWxp eDl6",
        ),
        ('{"apiVersion": "v1", "kind": "Secret", "data": {"a": "eDl6"}}', "eDl6"),
        ("kind: Secret\nstringData:\n  a: x9z\n  b: |\n    line9\n    more9\ntype: Opaque\n", "x9z line9 more9"),
        ("<SessionToken>opaque1</SessionToken><SecretAccessKey>opaque2</SecretAccessKey>", "opaque1 opaque2"),
        ("{'X-Amz-Security-Token': 'opaque1'}", "opaque1"),
        ("X-Amz-Security-Token: opaque1", "opaque1"),
        ("[x]\naws_secret_access_key = opaque1\naws_session_token=opaque2", "opaque1 opaque2"),
        (
            "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF9abc\nabc9xyz\n-----END PGP PRIVATE KEY BLOCK-----",
            "abc9xyz lQOY",
        ),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES,AB\n\nMIIEabc9xyz+\nabc9xyz/",
            "abc9xyz",
        ),
        ('{"kty": "RSA", "n": "abc", "d": "opaque1opaque1opaque1", "p": "opaque2opaque2opaque2"}', "opaque1 opaque2"),
        ('{"kty": "oct", "k": "opaque1opaque1opaque1"}', "opaque1"),
        ("$2b$12$abcdefghijklmnopqrstuvABCDEFGHIJKLMNOPQRSTUVWX012345", "abcdefghij"),
        ("Location: https://x/cb?state=s&code=8d3f9a10-1234-4abc-9def-001122334455.aa", "8d3f9a10"),
        ("password: |\n  line9\nnext: x", "line9"),
        ("connect(password='x9z')", "x9z"),
        ("- `password`: hunter22x", "hunter22x"),
        ("- `Authorization`: Bearer abcdefghijklmnop1", "abcdefghijklmnop1"),
        ("Password: correct horse battery staple", "correct horse battery staple"),
        ("Password: the horse is hunter22x.", "hunter22x"),
        ("{user: a, password: x9z}", "x9z"),
        ("bindCredential:\n  - x9zx9z\nnext: 1", "x9zx9z"),
    ],
)
def test_credentials_go_in_every_form_that_users_have(text, parts):
    gone(text, *parts.split())


@cache
def keys():
    """Return a private key of each kind as PEM."""
    plain, hidden = serialization.NoEncryption(), serialization.BestAvailableEncryption(b"x")
    rsa_key = rsa.generate_private_key(65537, 2048)
    formats = serialization.PrivateFormat
    made = {
        "PKCS8": (rsa_key, formats.PKCS8, plain),
        "PKCS1": (rsa_key, formats.TraditionalOpenSSL, plain),
        "encrypted": (rsa_key, formats.PKCS8, hidden),
        "OpenSSH": (rsa_key, formats.OpenSSH, plain),
        "EC": (ec.generate_private_key(ec.SECP256R1()), formats.TraditionalOpenSSL, plain),
        "Ed25519": (ed25519.Ed25519PrivateKey.generate(), formats.PKCS8, plain),
    }
    return {name: key.private_bytes(serialization.Encoding.PEM, *how).decode() for name, (key, *how) in made.items()}


LAYOUTS = {
    "plain": lambda pem: pem,
    "JSON": lambda pem: json.dumps({"a": pem}),
    "mail": lambda pem: "> " + pem.replace("\n", "\n> "),
    "YAML": lambda pem: "a: |\n    " + pem.replace("\n", "\n    "),
    "HTML": html.escape,
    "escaped dashes": lambda pem: pem.replace("-", "\\u002d"),
    "lower case": str.lower,
    "without its marks": lambda pem: "\n".join(pem.splitlines()[1:-1]),
    "one line": lambda pem: "".join(pem.splitlines()[1:-1]),
    "cut at its top": lambda pem: "\n".join(pem.splitlines()[2:]),
    "cut at its end": lambda pem: "\n".join(pem.splitlines()[:-1]),
    "cut at its end, in mail": lambda pem: "> " + "\n> ".join(pem.splitlines()[:-1]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["PKCS8", "PKCS1", "encrypted", "OpenSSH", "EC", "Ed25519"])
def test_a_private_key_goes_whole(kind, layout):
    lines = keys()[kind].splitlines()
    if layout == "cut at its top" and len(lines) < 5:
        lines = [*lines[:1], *lines]  # nothing of it would be left
    text = LAYOUTS[layout]("\n".join(lines))
    gone(text, *((line.lower() if layout == "lower case" else line)[5:20] for line in lines[2:-1] or lines[1:2]))


@pytest.mark.parametrize("kind", ["PKCS8", "OpenSSH", "Ed25519"])
def test_base64_of_a_private_key_goes(kind):
    text = base64_of(keys()[kind])
    gone(f"tls.key: {text}", text[:20], text[60:80])
    gone(wrapped(text, width=76), text[:20], text[80:100])


CREDENTIAL = f"client_secret={OPAQUE}"


@pytest.mark.parametrize(
    "packed",
    [
        *(CREDENTIAL.encode(codec) for codec in ("utf-16", "utf-16-le", "utf-16-be")),
        gzip.compress(CREDENTIAL.encode(), mtime=0),
        gzip.compress(TOKEN.encode(), mtime=0),
        TOKEN.encode("utf-16-le"),
    ],
)
def test_a_secret_in_utf_16_or_compressed_goes_with_its_base64(packed):
    run = base64.b64encode(packed).decode()
    gone(f"saved as {run}", run)


def test_what_unpacks_to_much_more_takes_little_memory_and_stays():
    bomb = base64.b64encode(gzip.compress(b" " * 50_000_000, mtime=0)).decode()
    assert clean(bomb) == bomb


@pytest.mark.parametrize(
    "text",
    [
        "db.example:5432:keycloak:kcuser:{}",
        "*:*:*:kcuser:{}",
        "<ds:SignatureValue>{}</ds:SignatureValue>",
        "https://hooks.slack.com/services/T00000000/B00000000/{}",
        "sk-proj-{}",
        "SG.{}.a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V",
        "dckr_pat_{}",
    ],
)
def test_credentials_of_more_programs(text):
    gone(text.format(OPAQUE), OPAQUE)
    gone(f"SAMLResponse={quote(base64_of(text.format(OPAQUE)))}", quote(base64_of(text.format(OPAQUE))))


@pytest.mark.parametrize(
    "text",
    [
        "task-proj-name of a long project",
        "127.0.0.1:5432:5432",
        "risk-anticipation-of-many",
        "a:*:b",
        "istio-system:5432",
    ],
)
def test_texts_like_them_stay(text):
    assert clean(text) == text
