"""The params of the network that do not fit each other."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lib.params.model import Params


def problems(params: Params) -> Iterator[str]:
    """Yield each reason why these params do not name one network, as a sentence without its full stop."""
    named = [name for name in ("subnet_ids", "subnet_tags") if getattr(params, name)]
    stated = type(params).model_fields
    own = [name for name in ("vpc_cidr", "vpc_zones", "nat") if getattr(params, name) != stated[name].default]
    if named and params.cluster_source == "existing":
        yield f"{named[0]} is for cluster_source: eks; an existing cluster is where it is"
    if len(named) > 1:
        yield "subnet_ids and subnet_tags both name the subnets; remove one of them"
    if named and own:
        yield f"{own[0]} is of a VPC that is made, and {named[0]} says that none is; remove one of them"
    if params.subnet_ids and len(set(params.subnet_ids)) < max(2, len(params.subnet_ids)):
        yield f"subnet_ids needs two or more, in different zones, each once; it has {', '.join(params.subnet_ids)}"
    yield from _range_problems(params.vpc_cidr)


def _range_problems(text: str) -> Iterator[str]:
    try:
        found = ipaddress.IPv4Network(text)
    except ValueError as error:
        yield f"vpc_cidr must be a network such as 10.0.0.0/16; {error}"
        return
    if not 16 <= found.prefixlen <= 24:
        yield f"vpc_cidr must be from /16, EC2's largest, to /24, which leaves room; it is /{found.prefixlen}"
