"""How Istio's rules compare strings, paths, principals, claims and addresses, as Istio 1.31 builds them for Envoy.

Source: istio/istio pilot/pkg/security/authz/model/generator.go and …/matcher/; Envoy's matchers.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

ESCAPED = re.compile("%([0-9A-Fa-f]{2})")
UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
MERGING = ("MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")  # normalizations that bring more spellings together
SLASHES = {"%2F": "/", "%5C": "\\"}


def text(pattern: str, value: str) -> bool:
    """Return whether a value matches a policy's string: exact, prefix*, *suffix, or * for any value but ""."""
    if pattern == "*":
        return bool(value)
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    return value.startswith(pattern[:-1]) if pattern.endswith("*") else value == pattern


def present(pattern: str, value: str) -> bool:
    """Return whether an existing header matches: * fits an empty value too."""
    return pattern == "*" or text(pattern, value)


def host(pattern: str, value: str) -> bool:
    """Return whether a Host header matches; case does not count, and a port in the header does."""
    return present(pattern.lower(), value.lower())


def path(pattern: str, value: str) -> bool:
    """Return whether a path without its query matches a string or a template with {*} and {**}."""
    if "{*" not in pattern:
        return text(pattern, value)
    parts = re.split(r"(\{\*\*?\})", pattern)
    regex = "".join({"{*}": "[^/]+", "{**}": ".*"}.get(part, re.escape(part)) for part in parts)
    return re.fullmatch(regex, value) is not None


def principal(pattern: str, value: str) -> bool:
    """Return whether a peer's principal, as td/ns/foo/sa/web, matches; "" is a peer without one."""
    if not value:
        return False
    return pattern == "*" or (value.endswith(pattern[1:]) if pattern.startswith("*") else text(pattern, value))


def namespace(pattern: str, value: str) -> bool:
    """Return whether a principal's namespace matches; a * may stand anywhere."""
    middle = ".*".join(re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(f".*/ns/{middle}/.*", value) is not None


def service_account(pattern: str, value: str, home: str) -> bool:
    """Return whether a principal is of a service account: name in the policy's namespace, or namespace/name."""
    space, slash, name = pattern.partition("/")
    space, name = (space, name) if slash else (home, pattern)
    return re.fullmatch(f".+/ns/{re.escape(space)}/(.+/|)sa/{re.escape(name)}(/.+)?", value) is not None


def trust_domain(pattern: str, value: str) -> bool:
    """Return whether a principal's trust domain matches."""
    if not value:
        return False
    if pattern == "*" or "*" not in pattern:
        return pattern == "*" or value.startswith(f"{pattern}/")
    before, _, after = pattern.partition("*")
    return re.fullmatch(f"{re.escape(before)}[^/]*{re.escape(after)}/.*", value) is not None


def request_principal(pattern: str, claims: Mapping[str, Any]) -> bool:
    """Return whether a token's iss and sub match; Istio cuts the pattern at its last slash, so issuer* fits nothing.

    A sub that has a slash matches only a pattern whose part after the last slash is a star.
    """
    issuer, subject = claims.get("iss"), claims.get("sub")
    if not isinstance(issuer, str) or not isinstance(subject, str):
        return False
    iss, slash, sub = pattern.rpartition("/")
    if not slash:
        iss, sub = pattern, ""
    if pattern == "*":
        return bool(issuer and subject)
    if pattern.startswith("*"):
        if not slash:
            return bool(issuer) and subject.endswith(pattern[1:])
        return (bool(issuer) if iss == "*" else issuer.endswith(iss[1:])) and subject == sub
    if pattern.endswith("*"):
        if not slash:
            return issuer.startswith(pattern[:-1]) and bool(subject)
        return issuer == iss and (bool(subject) if sub == "*" else subject.startswith(sub[:-1]))
    return issuer == iss and subject == sub


def claim(pattern: str, value: Any) -> bool:
    """Return whether a claim matches: a string, or a string in a list. Booleans, numbers and objects never match."""
    values = value if isinstance(value, list) else [value]
    return any(isinstance(one, str) and text(pattern, one) for one in values)


def claim_names(key: str) -> list[str] | None:
    """Return the names in [a][b], of a claim within a claim; [a.b] is one name. None: Istio refuses the key."""
    if re.fullmatch(r"(\[[^\[\]]*\])+", key):
        return re.findall(r"\[([^\[\]]*)\]", key)
    return [key[1:-1]] if key.startswith("[") and key.endswith("]") else None


def claim_value(claims: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the claim at these names, None if there is none."""
    node: Any = claims
    for name in names:
        node = node.get(name) if isinstance(node, Mapping) else None
    return node


def address(block: str, value: str) -> bool:
    """Return whether an address is in a block such as 10.0.0.0/8, or is this one."""
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(block, strict=False)
    except ValueError:
        return False


def normalized(raw: str, how: str = "BASE") -> str | None:
    """Return a path, with its query, as Envoy normalizes it before the policies; None if this is not known.

    Args:
        raw: The path as sent.
        how: meshConfig.pathNormalization: NONE, BASE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES.
    """
    bare, mark, query = raw.partition("#")[0].partition("?")
    if how == "NONE":
        return raw
    if not bare.startswith("/") or not bare.isascii() or re.search(r"%(?![0-9A-Fa-f]{2})|%00|[\s\"<>^`{|}]", bare):
        return None
    if how == "DECODE_AND_MERGE_SLASHES":
        bare = ESCAPED.sub(lambda one: SLASHES.get(one[0].upper(), one[0]), bare)
    bare = ESCAPED.sub(_unescaped, bare.replace("\\", "/"))
    segments: list[str] = []
    for segment in bare.split("/")[1:]:
        if segment == "..":
            segments = segments[:-1]
        elif segment != ".":
            segments.append(segment)
    if bare.rpartition("/")[2] in (".", ".."):
        segments.append("")
    made = "/" + "/".join(segments)
    if how in MERGING:
        made = re.sub("/{2,}", "/", made)
    return made + mark + query


def _unescaped(one: re.Match) -> str:
    character = chr(int(one[1], 16))
    return character if UNRESERVED.match(character) else one[0]


def with_aliases(principal: str, domains: Sequence[str]) -> list[str]:
    """Return a rule's principal for each of the mesh's trust domains, as istiod writes it into Envoy.

    Args:
        principal: The principal in the rule; cluster.local stands for the mesh's own trust domain.
        domains: The mesh's trust domain, then its aliases.
    """
    parts = principal.split("/")
    if len(parts) != 5 or parts[0] == "*":
        return [principal]
    if parts[0] != "cluster.local" and not any(text(parts[0], one) for one in domains):
        return [principal]
    made = [principal if _ends(one, parts[0]) else "/".join([one, *parts[1:]]) for one in domains]
    return list(dict.fromkeys(made))


def _ends(domain: str, pattern: str) -> bool:
    return pattern.startswith("*") and domain.endswith(pattern[1:])
