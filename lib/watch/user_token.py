"""The token that the probes of a watch forge from: a token of the user whose Secret is mounted."""

from __future__ import annotations

from pathlib import Path

import yaml

from lib.crypto import trust_store
from lib.keycloak import oidc

KEYS = ("client", "client-secret", "username", "password")


def user_token(user: Path, mesh: Path) -> str:
    """Return an access token by the password grant, at the token endpoint of the mesh's issuer.

    Args:
        user: A folder with a file for each of KEYS, as a Secret is mounted.
        mesh: The params file of the probes, for its issuer and ca.
    """
    settings = yaml.safe_load(mesh.read_text())
    if settings.get("ca"):
        trust_store.add_file(Path(settings["ca"]))
    client, secret, name, password = ((user / key).read_text() for key in KEYS)
    with oidc.direct_session() as session:
        endpoint = oidc.discovery(settings["issuer"], session=session)["token_endpoint"]
        return oidc.password_token(endpoint, client, secret, name, password, session=session)["access_token"]
