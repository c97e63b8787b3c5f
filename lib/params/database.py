"""The params of Keycloak, of its database and its paths, that do not fit each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from lib.params.model import Params


def driver(url: str) -> dict[str, str]:
    """Return the options of a jdbc: address for PostgreSQL's driver, such as sslmode."""
    return dict(parse_qsl(urlsplit(url.removeprefix("jdbc:")).query))


def relative_path(command: Sequence[str]) -> str:
    """Return the path under which a command of kc.sh serves Keycloak, "" for the root."""
    for place, word in enumerate(command):
        name, equals, value = word.partition("=")
        if name == "--http-relative-path":
            path = value if equals else (*command, "")[place + 1]
            return path if path.strip("/") else ""
    return ""


def problems(params: Params) -> Iterator[str]:
    """Yield each reason why the params of Keycloak's database do not fit each other."""
    if path := relative_path(params.keycloak_command):
        yield (
            f"keycloak_command sets http-relative-path to {path}, and the runbook asks Keycloak at / (health checks, "
            "issuer, jwksUri, routes); remove the option"
        )
    address, file = params.keycloak_database, params.keycloak_database_ca_file
    if not address:
        if file:
            yield "keycloak_database_ca_file is for keycloak_database; remove it"
        return
    options = driver(address)
    if "@" in urlsplit(address.removeprefix("jdbc:")).netloc or {"user", "password"} & set(options):
        yield "keycloak_database must not hold user or password: they go into the Secret keycloak/keycloak-external-db"
    if file and options.get("sslmode") != "verify-full":
        yield "keycloak_database_ca_file verifies nothing without ?sslmode=verify-full in keycloak_database; add that"
    if file and "sslrootcert" in options:
        yield "keycloak_database names an sslrootcert, and keycloak_database_ca_file is one; remove one of them"
    if options.get("sslmode") == "verify-full" and not file and not {"sslrootcert", "sslfactory"} & set(options):
        yield (
            "keycloak_database with sslmode=verify-full needs keycloak_database_ca_file: PostgreSQL's driver trusts "
            "no other CA (RDS: its bundle); or add sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory to the address"
        )
