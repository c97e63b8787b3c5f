"""Which params of Keycloak's database go together."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from lib.params.model import Params


def driver(url: str) -> dict[str, str]:
    """Return what a jdbc: address says to PostgreSQL's driver: sslmode, for example."""
    return dict(parse_qsl(urlsplit(url.removeprefix("jdbc:")).query))


def problem(params: Params) -> str:
    """Return why the params of Keycloak's database do not go together, as `problem` does."""
    address, file = params.keycloak_database, params.keycloak_database_ca_file
    if not address:
        return "keycloak_database_ca_file is for keycloak_database; remove it" if file else ""
    options = driver(address)
    if "@" in urlsplit(address.removeprefix("jdbc:")).netloc or {"user", "password"} & set(options):
        return "keycloak_database must not hold user or password: they go into the Secret keycloak/keycloak-external-db"
    if file and options.get("sslmode") != "verify-full":
        return "keycloak_database_ca_file verifies nothing without ?sslmode=verify-full in keycloak_database; add that"
    if file and "sslrootcert" in options:
        return "keycloak_database names an sslrootcert, and keycloak_database_ca_file is one; remove one of them"
    if options.get("sslmode") == "verify-full" and not file and not {"sslrootcert", "sslfactory"} & set(options):
        return (
            "keycloak_database with sslmode=verify-full needs keycloak_database_ca_file: PostgreSQL's driver believes "
            "nobody else (RDS: its bundle); or add sslfactory=org.postgresql.ssl.DefaultJavaSSLFactory to the address"
        )
    return ""
