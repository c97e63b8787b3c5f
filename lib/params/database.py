"""The params of Keycloak's database that do not fit each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from lib.params.model import Params


def driver(url: str) -> dict[str, str]:
    """Return the options of a jdbc: address for PostgreSQL's driver, such as sslmode."""
    return dict(parse_qsl(urlsplit(url.removeprefix("jdbc:")).query))


def problems(params: Params) -> Iterator[str]:
    """Yield each reason why the params of Keycloak's database do not fit each other."""
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
