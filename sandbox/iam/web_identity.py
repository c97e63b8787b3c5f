"""AssumeRoleWithWebIdentity: a service account's token of a cluster becomes a session of a role (IRSA of EKS).

The caller has no access key, so the call is not signed: the token is all that counts, and each of its parts is checked.
Source: IAM user guide, "Create an OpenID Connect (OIDC) identity provider in IAM" and "Create a role for OpenID Connect
federation"; EKS user guide, "IAM roles for service accounts"; STS API reference, API_AssumeRoleWithWebIdentity.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, KeySetSerialization
from moto.iam.models import OpenIDConnectProvider

from sandbox.iam.access_keys import iam
from sandbox.iam.authorization import FORBIDDEN, SESSION_NAME
from sandbox.iam.sessions import open_role
from sandbox.iam.signed_call import Answer, Call, Refusal
from sandbox.iam.trust_policies import WEB_IDENTITY, role_of, trusts_web_identity

ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]  # "Create an OpenID Connect identity provider"
MAX_TOKEN = 20000  # characters: API_AssumeRoleWithWebIdentity
FindKeys = Callable[[str], KeySetSerialization | None]  # issuer -> its JSON Web Key Set, None if it is not there


class BadToken(Exception):
    """STS's error code and message for a token; the message quotes no part of the token but its issuer."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def assume_role(call: Call, keys: FindKeys, now: datetime | None = None) -> Answer:
    """Check the token and the role's trust policy, and open a session."""
    now = now or datetime.now(UTC)
    try:
        provider, claims = verified(call.params["WebIdentityToken"], keys, now)
    except BadToken as bad:
        return Refusal(bad.code, str(bad))
    role, name = role_of(call.params["RoleArn"]), call.params["RoleSessionName"]
    context = {f"{provider.url}:sub": claims["sub"], f"{provider.url}:aud": claims["aud"], "sts:RoleSessionName": name}
    if not role or not SESSION_NAME.fullmatch(name) or not trusts_web_identity(role, provider.arn, context):
        return Refusal("AccessDenied", f"Not authorized to perform {WEB_IDENTITY}", FORBIDDEN)
    about = {"SubjectFromWebIdentityToken": claims["sub"], "Audience": claims["aud"], "Provider": provider.arn}
    return open_role(call, role, about)


def verified(token: str, keys: FindKeys, now: datetime) -> tuple[OpenIDConnectProvider, dict[str, Any]]:
    """Return the account's provider for the token's issuer, and the token's claims, with one audience.

    Args:
        token: a JSON Web Token.
        keys: returns an issuer's keys.
        now: the present time.

    Raises:
        BadToken: no provider for the issuer, wrong signature, time or audience, or no token at all.
    """
    if len(token) > MAX_TOKEN:
        raise BadToken("InvalidIdentityToken", f"expected a token of at most {MAX_TOKEN} characters, got {len(token)}.")
    try:
        issuer = str(_claims(jws.extract_compact(token.encode()).payload)["iss"])
    except (JoseError, ValueError, LookupError, TypeError, RecursionError):
        raise BadToken("InvalidIdentityToken", "The ID Token provided is not a valid JWT.") from None
    provider = _provider(issuer)
    shown = repr(issuer[:200])
    if provider is None:
        raise BadToken("InvalidIdentityToken", f"No OpenIDConnect provider found in your account for {shown}")
    key_set = keys(issuer)
    if key_set is None:
        raise BadToken("IDPCommunicationError", f"The keys of {shown} could not be read: no such cluster runs.")
    try:
        signed = jws.deserialize_compact(token, KeySet.import_key_set(key_set), algorithms=ALGORITHMS)
    except (JoseError, ValueError):
        raise BadToken("InvalidIdentityToken", "Couldn't verify the signature of the ID Token.") from None
    return provider, _checked(_claims(signed.payload), provider, now)


def _checked(claims: dict[str, Any], provider: OpenIDConnectProvider, now: datetime) -> dict[str, Any]:
    """Return the claims with the one audience as a text. Raises BadToken for a wrong time, audience or subject."""
    if not all(isinstance(claims.get(name), int) for name in ("iat", "exp")) or not isinstance(claims.get("sub"), str):
        raise BadToken("InvalidIdentityToken", "Missing a required claim: sub, iat and exp.")
    if now.timestamp() >= claims["exp"]:
        times = f"current date/time {now.timestamp():.0f} must be before the expiration date/time {claims['exp']}"
        raise BadToken("ExpiredTokenException", f"Token expired: {times}")
    if now.timestamp() < max(claims["iat"], claims.get("nbf", 0)):
        raise BadToken("InvalidIdentityToken", "The ID Token is not valid yet.")
    audiences = claims["aud"] if isinstance(claims.get("aud"), list) else [claims.get("aud")]
    if len(audiences) != 1 or audiences[0] not in provider.client_id_list:  # AWS's rule for several needs azp
        raise BadToken("InvalidIdentityToken", "Incorrect token audience")
    return {**claims, "aud": audiences[0]}


def _claims(payload: bytes) -> dict[str, Any]:
    claims = json.loads(payload)
    if not isinstance(claims, dict):
        raise ValueError
    return claims


def _provider(issuer: str) -> OpenIDConnectProvider | None:
    """Return the account's provider whose URL is the issuer, without https:// as IAM keeps it."""
    providers = list(iam().open_id_providers.values())
    return next((one for one in providers if issuer == f"https://{one.url}"), None)
