"""What a secret looks like without its name: the table of shapes."""

from __future__ import annotations

import base64
import binascii
import json
import re
import string
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from lib.crypto.jwt import fingerprint
from lib.redact.views import Span
from lib.redact.words import Words

MARK = "[redacted]"
KEY_MARK = "[private key]"
B64 = r"[A-Za-z0-9+/_-]"
ARMOUR = r"(?:[a-z0-9]+ )*private key(?: block)?"
BODY = r"[A-Za-z0-9+/=]"
BETWEEN = r"[\s>|#\"'+,\\]"  # around the lines of a key in code, in mail, in a shell's script
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
RUN = re.compile(rf"(?<!{B64}){B64}{{16,}}={{0,2}}(?:\r?\n[ \t>|]*{B64}{{4,}}={{0,2}}(?!\S))*")
LINE = re.compile(rf"{B64}{{16,}}")
HEX = re.compile(r"(?:[0-9a-fA-F]{2})+")
DER_KEY = re.compile(  # PKCS #1, #8, #12 and SEC 1 begin with a version; an encrypted PKCS #8 with PKCS #5's object id
    rb"0(?:\x82..|\x81.|.)(?:\x02\x01[\x00-\x03](?!\x02\x01)|0.{1,4}\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05)",
    re.DOTALL,
)
LETTERS = (string.ascii_letters + string.digits + "+/_-.").encode()
IN_TOKENS = bytes(one if one in LETTERS else 32 for one in range(256))
SHORTEST_RUN, SHORTEST_TOKEN = 16, 32  # characters
CONTROLS = bytes({*range(32), 127} - {*b"\t\n\r"})
GZIP = b"\x1f\x8b\x08"
LARGEST = 2**20  # bytes that are unpacked
SHORTEST_KEY = 40  # bytes; an Ed25519 key in PKCS #8 has 48
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+|\w{1,3}")
DATE = re.compile(r"\d{4}-\d\d-\d\d")
TOKEN = re.compile(r"e(?:y[ABIJ]|w[01klop])[\w-]*(?:\.[\w-]*)*|k8s-aws-v1\.[\w-]*=*")
TOKENS = Words(("eyA", "eyB", "eyI", "eyJ", "ew0", "ew1", "ewk", "ewl", "ewo", "ewp", "k8s-aws-v1."))  # its beginnings
BREAK = re.compile(rf"(?:[\"'\\]?\s{BETWEEN}*|(?<=\.)\\?)(?P<rest>\.?[\w-]+(?:\.[\w-]*)*=*)(?![:=(/@\w.-])")


class Shape(NamedTuple):
    """A row of the table: the kind of secret, a few words, the pattern, and a test of a match.

    A text with none of these words cannot match. Words and pattern are in lower
    case. The group `secret`, or the whole match without one, is replaced. With
    `first`, a match begins with one of the words, so no other place is tried.
    """

    kind: str
    words: tuple[str, ...]
    pattern: re.Pattern[str]
    mark: str = MARK
    holds: Callable[[str], bool] = lambda secret: True
    first: bool = False


def _not_marked(secret: str) -> bool:
    return secret != MARK


SHAPES = (
    Shape(
        "a private key",
        ("private key-", "private key -", "private key block-"),
        re.compile(
            rf"-{{4,5}} ?begin {ARMOUR} ?-{{4,5}}(?:(?:(?!-----begin).)*?-----end {ARMOUR}-----"
            rf"|(?:{BETWEEN}*+(?:[\w-]+: [^\n]*+|{BODY}++(?![^\s\\\"'])))*+)",  # whole, or cut off
            re.DOTALL,
        ),
        KEY_MARK,
    ),
    Shape(
        "the end of a private key",
        ("private key-----", "private key block-----"),
        re.compile(rf"(?:{BODY}{{24,}}+{BETWEEN}++)*+(?:{BODY}++{BETWEEN}++)?+-----end {ARMOUR}-----"),
        KEY_MARK,
    ),
    Shape(
        "a password in a URL",
        ("://",),
        re.compile(r"://[^\s/:@\"'<>]*:(?P<secret>(?!\d{1,5}[&,;])[^\s/?#\"'<>]+)@(?!sha256:)"),
        holds=_not_marked,
    ),
    Shape(
        "a password's hash",
        ("$",),
        re.compile(r"\$(?:2[abxy]?|[5-7]|y|gy|argon2\w*|scrypt|pbkdf2[\w-]*)\$[\w./$=,+-]{16,}"),
    ),
    Shape(
        "basic credentials",
        ("basic",),
        re.compile(rf"basic\s+(?P<secret>{B64}{{4,}}={{0,2}})"),
        holds=lambda secret: b":" in (decoded(secret) or b""),
    ),
    Shape(
        "a bearer token",
        ("bearer", "dpop", "apikey", "negotiate", "ntlm"),
        re.compile(r"(?<!\w)(?:bearer|dpop|apikey|negotiate|ntlm)\s+(?P<secret>[\w.~+/-]{16,}=*)"),
        first=True,
    ),
    Shape(
        "a signature of AWS",
        ("signature=", "security-token="),
        re.compile(r"(?:signature|security-token)=(?P<secret>[\w%+/=-]{16,})"),
    ),
    Shape("a code of OAuth", ("code=",), re.compile(r"[?&#]code=(?P<secret>[\w.~-]{16,})")),
    Shape(
        "a private JWK",
        ("kty",),
        re.compile(r"""["'](?:d|k|p|q|dp|dq|qi)["']\s*:\s*["'](?P<secret>[\w-]{16,})"""),
    ),
    Shape(
        "a password on a command line",
        ("-u ", "-u=", "--user ", "--user=", "sshpass"),
        re.compile(
            r"(?:(?<!\S)(?:-u|--user)[ =][\"']?(?!\d+:\d)[^\s:\"'/]+:|\bsshpass -p ?)(?P<secret>[^\s\"']+)"
        ),
        holds=_not_marked,
        first=True,
    ),
    Shape(
        "a password in .netrc",
        ("machine ",),
        re.compile(r"\blogin\s+\S+\s+password\s+(?P<secret>[^\s\"']+)"),
        holds=_not_marked,
    ),
    Shape(
        "a password in .pgpass",
        (":5432:", ":*:"),
        re.compile(r"(?:(?<=[\s\"'])|^)[^\s:\"']+:(?:5432|\*):[^\s:]+:[^\s:]+:(?P<secret>[^\s\"']+)"),
        holds=_not_marked,
    ),
    Shape(
        "the signature of a SAML assertion",
        ("signaturevalue",),
        re.compile(r"signaturevalue>\s*(?P<secret>[\w+/=\s]{16,})"),
        first=True,
    ),
    Shape("a webhook's address", ("hooks.slack.com/",), re.compile(r"hooks\.slack\.com/\w+/(?P<secret>[\w/]{16,})")),
    Shape(
        "a key of a known service",
        ("akia", "asia", "ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_", "glpat-", "xox", "rk_live_", "sk_live_",
         "aiza", "npm_", "hvs.", "age-secret", "pypi-",
         "sk-", "sg.", "hf_", "dckr_pat_"),
        re.compile(
            r"\b(?:(?:akia|asia)[a-z2-7]{16}|gh[opsur]_\w{30,}|github_pat_\w{22,}|glpat-[\w-]{20,}|xox[abeoprs]-[\w-]{10,}"
            r"|[rs]k_live_\w{16,}|aiza[\w-]{35}|npm_\w{36}|hvs\.[\w-]{24,}|age-secret-key-1\w{50,}|pypi-[\w-]{40,}"
            r"|sk-(?:proj|ant|svcacct)-[\w-]{20,}|sg\.[\w-]{16,32}\.[\w-]{32,64}|hf_[a-z]{30,}|dckr_pat_[\w-]{20,})\b"
        ),
        first=True,
    ),
)  # fmt: skip
WORDS = Words(word for shape in SHAPES for word in shape.words)


def found(text: str, hidden: Callable[[str], bool]) -> Iterator[tuple[str, Span]]:
    """Yield each place of the text that has the shape of a secret, with its kind.

    Args:
        text: a view of a text.
        hidden: whether a text holds a secret; it is asked about what base64 and hexadecimal runs say.
    """
    public = [block.span() for block in CERTIFICATE.finditer(text) if (decoded(block[1]) or b"")[:1] == b"0"]
    lower = text.lower()
    lower = lower if len(lower) == len(text) else text
    runs = _runs(text)
    for kind, span in (*_tokens(text, runs), *_encoded(text, runs, hidden), *_table(text, lower)):
        if not any(start <= span.start < end for start, end in public):
            yield kind, span


def decoded(text: str) -> bytes | None:
    """Return what base64 or base64url says, with or without padding and line ends; None if it is neither."""
    plain = re.sub(r"[\s>|=]", "", text).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(plain[: len(plain) - (len(plain) % 4 == 1)] + "=" * (-len(plain) % 4 % 3))
    except binascii.Error:
        return None


def random(text: str) -> bool:
    """Return whether a part of a token may look so, and not a word of a sentence."""
    return not (DATE.match(text) or all(map(WORD.fullmatch, filter(None, re.split(r"[-_.=]", text)))))


def _table(text: str, lower: str) -> Iterator[tuple[str, Span]]:
    places = WORDS.places(lower)
    for shape in SHAPES if places else ():  # most texts have none of the words
        if starts := [start for word in shape.words for start in places.get(word, ())]:
            begun = (shape.pattern.match(lower, start) for start in sorted(starts))
            for one in filter(None, begun) if shape.first else shape.pattern.finditer(lower):
                start, end = one.span("secret" if "secret" in shape.pattern.groupindex else 0)
                if shape.holds(text[start:end]):
                    yield shape.kind, Span(start, end, shape.mark)


def _tokens(text: str, runs: set[str]) -> Iterator[tuple[str, Span]]:
    """Yield tokens, also those that go on after a line's end, and those whose header begins with white space."""
    last = 0
    for start in TOKENS.starts(text):
        if start < last or not (one := TOKEN.match(text, start)):
            continue
        token, last = one[0], one.end()
        while (more := BREAK.match(text, last)) and _goes_on(token, text[last : more.start("rest")], more["rest"]):
            token, last = token + more["rest"], more.end()
        if len(token) >= 7 and (token.startswith("k8s") or _json(token)):
            eks = token.startswith("k8s")
            mark = f"[{'eks token' if eks else 'jwt'} sha256:{fingerprint(token)}]"
            yield "an EKS token" if eks else "a token (eyJ…)", Span(start, last, mark)
    for token in runs:
        if len(token) >= SHORTEST_TOKEN and token.count(".") >= 2 and _header(token):
            start = text.find(token)
            yield "a token", Span(start, start + len(token), f"[jwt sha256:{fingerprint(token)}]")


def _runs(text: str) -> set[str]:
    """Return the different runs of a text that a token could be, quicker than a pattern; it makes others spaces."""
    if len(text) < SHORTEST_RUN:
        return set()
    runs = {*text.encode(errors="replace").translate(IN_TOKENS).split()}
    return {run.decode() for run in runs if len(run) >= SHORTEST_RUN}


def _header(token: str) -> bool:
    try:
        return isinstance(json.loads(decoded(token.partition(".")[0]) or b""), dict)
    except ValueError:
        return False


def _goes_on(token: str, between: str, rest: str) -> bool:
    if TOKEN.match(rest) and not token.endswith("."):
        return False  # another token
    if token.endswith(".") and token.count(".") < 3 or rest.startswith("."):
        return random(rest)
    return random(rest) and ("\n" in between or len(rest) >= 20)


def _json(token: str) -> bool:
    """Return whether the token's beginning says `{` and then text."""
    head = decoded(re.match(r"[\w-]*", token)[0][:12]) or b""  # type: ignore[index]
    return head[:1] == b"{" and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head[:-1])


def _encoded(text: str, runs: set[str], hidden: Callable[[str], bool]) -> Iterator[tuple[str, Span]]:
    """Yield base64 and hexadecimal runs that say a private key, or a text with a secret."""
    if not any(_says(part) for run in runs for part in run.split(".") if len(part) >= SHORTEST_RUN):
        return
    for run in RUN.finditer(text):
        if _hides(run[0], hidden):
            yield "an encoded secret", Span(*run.span(), MARK)
        elif "\n" in run[0]:
            for line in LINE.finditer(run[0]):
                if _hides(line[0], hidden):
                    yield "an encoded secret", Span(run.start() + line.start(), run.start() + line.end(), MARK)


def _says(run: str) -> list[bytes]:
    """Return what a base64 or hexadecimal run says, if it is a private key or a text."""
    data = [_unpacked(decoded(run) or b""), bytes.fromhex(run) if HEX.fullmatch(run) else b""]
    return [one for one in data if one and (_key(one) or _text(one))]


def _unpacked(data: bytes) -> bytes:
    """Return compressed data as it was, up to a size, and UTF-16 of Latin letters as UTF-8; other data as it is."""
    if data.startswith(GZIP):
        with suppress(zlib.error):
            return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, LARGEST)
    for codec, zeros in (("utf-16-le", data[1::2]), ("utf-16-be", data[::2])):
        if zeros and zeros.count(0) > len(zeros) * 3 // 4:
            return data.decode(codec, "replace").lstrip("\ufeff").encode()
    return data


def _key(data: bytes) -> bool:
    return len(data) >= SHORTEST_KEY and bool(DER_KEY.match(data)) or data.startswith(b"openssh-key-v1")


def _text(data: bytes) -> str:
    try:
        return data.decode() if data.translate(None, CONTROLS) == data else ""
    except UnicodeDecodeError:
        return ""


def _hides(run: str, hidden: Callable[[str], bool]) -> bool:
    return any(_key(one) or hidden(_text(one)) for one in _says(run))
