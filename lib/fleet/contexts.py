"""A cluster by its context in a kubeconfig: the command that makes its token has the name and the region in EKS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lib.errors import ParamsError

# Source: `aws eks update-kubeconfig`, aws-iam-authenticator, lib.aws.kubeconfig
CLUSTER = ("--cluster-name", "--cluster-id", "--cluster", "-i")
REGION = ("--region", "AWS_REGION", "AWS_DEFAULT_REGION")


def resolved(clusters: Sequence[Any], files: Sequence[Path]) -> list[Any]:
    """Return the clusters of a fleet's params with `eks` and `region` in place of `context`.

    Raises:
        ParamsError: no file has the context, or its command names no EKS cluster.
    """
    if not any(isinstance(one, dict) and "context" in one for one in clusters):
        return [*clusters]
    known = _commands(files)
    return [_resolved(one, known) if isinstance(one, dict) and "context" in one else one for one in clusters]


def _resolved(one: Mapping, known: Mapping[str, Mapping]) -> dict:
    context = str(one["context"])
    if {"eks", "region"} & one.keys():
        raise ParamsError(f"expected context, or eks and region, got both in {context}; delete one of them.")
    if context not in known:
        raise ParamsError(f"expected the context {context} in the kubeconfig, got none; correct it, or set KUBECONFIG.")
    words = [part for word in known[context].get("args") or [] for part in str(word).split("=", 1)]
    values = dict(zip(words, words[1:], strict=False))
    values |= {each["name"]: each["value"] for each in known[context].get("env") or []}
    eks, region = (next((values[name] for name in names if name in values), "") for names in (CLUSTER, REGION))
    if not eks or not region:
        raise ParamsError(
            f"expected a command as aws eks get-token with the cluster and the region in the context {context}, "
            "got another user; write eks and region in place of context."
        )
    return {**{name: value for name, value in one.items() if name != "context"}, "eks": eks, "region": region}


def _commands(files: Sequence[Path]) -> dict[str, Mapping]:
    """Return the command of each context's user, {} without one; the first file that has a name counts."""
    contexts: dict[str, str] = {}
    users: dict[str, Mapping] = {}
    for file in filter(Path.is_file, files):
        try:
            found = yaml.safe_load(file.read_text()) or {}
            for one in found.get("contexts") or []:
                contexts.setdefault(one["name"], one["context"].get("user", ""))
            for one in found.get("users") or []:
                users.setdefault(one["name"], (one.get("user") or {}).get("exec") or {})
        except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise ParamsError(f"expected a kubeconfig in {file}, got {type(error).__name__}; correct it.") from None
    return {name: users.get(user, {}) for name, user in contexts.items()}
