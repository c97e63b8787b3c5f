"""Which params about the network, and about Keycloak's database, go together: said before anything is asked."""

from __future__ import annotations

import ipaddress
from urllib.parse import parse_qsl, urlsplit


def problem(here) -> str:
    """Return why these params name no one place, as a sentence without its full stop; '' where they do."""
    named = [name for name in ("subnet_ids", "subnet_tags") if getattr(here, name)]
    stated = type(here).model_fields
    own = [name for name in ("vpc_cidr", "vpc_zones", "nat") if getattr(here, name) != stated[name].default]
    if named and here.cluster_source == "existing":
        return f"{named[0]} is for cluster_source: eks; an existing cluster is where it is"
    if len(named) > 1:
        return "subnet_ids and subnet_tags both name the subnets; remove one of them"
    if named and own:
        return f"{own[0]} is of a VPC that is made, and {named[0]} says that none is; remove one of them"
    if here.subnet_ids and len(set(here.subnet_ids)) < max(2, len(here.subnet_ids)):
        return f"subnet_ids needs two or more, in different zones, each once; it has {', '.join(here.subnet_ids)}"
    return _range_problem(here.vpc_cidr)


def driver(url: str) -> dict[str, str]:
    """Return what a jdbc: address says to PostgreSQL's driver: sslmode, for example."""
    return dict(parse_qsl(urlsplit(url.removeprefix("jdbc:")).query))


def database_problem(here) -> str:
    """Return why the params of Keycloak's database do not go together, as `problem` does."""
    address, file = here.keycloak_database, here.keycloak_database_ca_file
    if not address:
        return "keycloak_database_ca_file is for keycloak_database; remove it" if file else ""
    said = driver(address)
    if "@" in urlsplit(address.removeprefix("jdbc:")).netloc or {"user", "password"} & set(said):
        return "keycloak_database must not hold user or password: they go into the Secret keycloak/keycloak-external-db"
    if file and said.get("sslmode") != "verify-full":
        return "keycloak_database_ca_file verifies nothing without ?sslmode=verify-full in keycloak_database; add that"
    if file and "sslrootcert" in said:
        return "keycloak_database names an sslrootcert, and keycloak_database_ca_file is one; remove one of them"
    if said.get("sslmode") == "verify-full" and not file and not {"sslrootcert", "sslfactory"} & set(said):
        return (
            "keycloak_database with sslmode=verify-full needs keycloak_database_ca_file: PostgreSQL's driver believes "
            "nobody else (RDS: its bundle); or add sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory to the address"
        )
    return ""


def _range_problem(text: str) -> str:
    try:
        found = ipaddress.IPv4Network(text)
    except ValueError as error:
        return f"vpc_cidr must be a network such as 10.0.0.0/16; {error}"
    if not 16 <= found.prefixlen <= 24:
        return f"vpc_cidr must be from /16, EC2's largest, to /24, which leaves room; it is /{found.prefixlen}"
    return ""
