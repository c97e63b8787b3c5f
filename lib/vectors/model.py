"""Public test vectors as plain rows: Project Wycheproof's, and the examples of the RFCs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from lib.crypto.base64url import encoded
from lib.errors import RunbookError

FILES = {"jws": "json_web_signature_test.json", "jwk": "json_web_key_test.json"}
EXAMPLES = Path(__file__).with_name("examples.yml")


@dataclass(frozen=True)
class Vector:
    """One token, its keys, and the expected result: valid, invalid or acceptable.

    `group` names the set of keys, such as `jws-2`; `number` is Wycheproof's tcId or the RFC's section. A verifier gets
    `keys`; `private` has these keys with their private halves.
    """

    group: str
    number: str
    comment: str
    jws: str
    result: str
    keys: tuple[dict, ...] = field(repr=False)
    private: tuple[dict, ...] = field(repr=False)
    flags: tuple[str, ...] = ()
    unsendable: str = ""

    @property
    def jwks(self) -> str:
        """The keys as a JSON Web Key Set, the form that Envoy reads."""
        return json.dumps({"keys": self.keys})


def load(folder: Path) -> list[Vector]:
    """Return Wycheproof's vectors of JWS and JWK from its folder `testvectors_v1`."""
    found = []
    for short, name in FILES.items():
        path = folder / name
        if not path.is_file():
            raise RunbookError(f"{folder} has no vectors {name}. Run `python -m sandbox vectors`, which fetches them.")
        groups = json.loads(path.read_text())["testGroups"]
        found += [one for number, group in enumerate(groups) for one in _group(f"{short}-{number}", group)]
    return found


def examples(path: Path = EXAMPLES) -> list[Vector]:
    """Return the examples of RFC 7515 and RFC 7519. Their file holds decoded text, and thus no token."""
    return [_example(one) for one in yaml.safe_load(path.read_text())["examples"]]


def _group(name: str, group: dict) -> list[Vector]:
    private = _keys(group["private"])
    keys = _keys(group["public"]) if "public" in group else private
    return [
        Vector(
            group=name,
            number=str(one["tcId"]),
            comment=one["comment"],
            jws=one["jws"],
            result=one["result"],
            keys=keys,
            private=private,
            flags=tuple(one["flags"]),
        )
        for one in group["tests"]
    ]


def _keys(found: dict) -> tuple[dict, ...]:
    return tuple(found.get("keys", [found]))


def _example(one: dict) -> Vector:
    private = tuple(one.get("keys", ()))
    keys = tuple({name: key[name] for name in key if name not in ("d", "p", "q", "dp", "dq", "qi")} for key in private)
    parts = [encoded(one.get(name, "").encode()) for name in ("header", "payload")] + [one.get("signature", "")]
    return Vector(
        group=one["section"].lower().replace(" ", "-"),
        number=one["section"],
        comment=one["title"],
        jws=".".join(parts),
        result=one["result"],
        keys=keys,
        private=private,
        unsendable=one.get("unsendable", ""),
    )
