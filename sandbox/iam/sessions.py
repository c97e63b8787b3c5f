"""STS's AssumeRole and GetCallerIdentity; moto's own know neither trust policies nor the end of a role."""

from __future__ import annotations

import json
from xml.sax.saxutils import escape

from moto.iam.models import Role

from sandbox.iam.access_keys import iam, open_session
from sandbox.iam.authorization import document
from sandbox.iam.signed_call import Answer, Call, Refusal
from sandbox.iam.trust_policies import role_of

SHORTEST, DEFAULT = 900, 3600  # seconds of a session: API_AssumeRole


def assume_role(call: Call) -> Answer:
    """API_AssumeRole: open a session; sandbox/iam/authorization.py has decided whether the caller may."""
    role = role_of(call.params["RoleArn"])
    if role is None:
        return Refusal("NoSuchEntity", "The role ended meanwhile.", "404 Not Found")
    return open_role(call, role, {})


def open_role(call: Call, role: Role, about: dict[str, str]) -> Answer:
    """Open a session with the call's duration and policies; `about` are further members of the answer."""
    seconds, longest = call.params.get("DurationSeconds", DEFAULT), int(role.max_session_duration or DEFAULT)
    if not SHORTEST <= seconds <= longest:
        return Refusal("ValidationError", f"expected DurationSeconds from {SHORTEST} to {longest}, got {seconds}.")
    try:
        policies = (*_inline(call), *_managed(call))
    except (ValueError, LookupError, TypeError, AttributeError):
        return Refusal("MalformedPolicyDocument", "expected session policies by IAM's grammar, got others.")
    identity, until = open_session(role, call.params["RoleSessionName"], policies, seconds)
    return _xml(
        call,
        f"<AssumedRoleUser><AssumedRoleId>{identity.user_id}</AssumedRoleId><Arn>{identity.arn}</Arn></AssumedRoleUser>"
        f"<Credentials><AccessKeyId>{identity.access_key}</AccessKeyId><SecretAccessKey>{identity.secret}"
        f"</SecretAccessKey><SessionToken>{identity.session_token}</SessionToken>"
        f"<Expiration>{until:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials>{_members(about)}",
    )


def caller_identity(call: Call) -> Answer:
    """API_GetCallerIdentity: who signed the call."""
    about = call.identity
    fields = {"UserId": about.user_id, "Account": about.account, "Arn": about.arn}
    return _xml(call, _members(fields))


def _members(fields: dict[str, str]) -> str:
    return "".join(f"<{name}>{escape(value)}</{name}>" for name, value in fields.items())


def _inline(call: Call) -> list[str]:
    text = call.params.get("Policy")
    if text is None:
        return []
    statements = json.loads(text)["Statement"]
    for one in statements if isinstance(statements, list) else [statements]:
        if one["Effect"] not in ("Allow", "Deny") or not {"Action", "NotAction"} & set(one):
            raise ValueError
    return [text]


def _managed(call: Call) -> list[str]:
    return [document(iam().managed_policies[one["arn"]]) for one in call.params.get("PolicyArns", [])]


def _xml(call: Call, result: str) -> Answer:
    name, about = call.action, f"<ResponseMetadata><RequestId>{call.id}</RequestId></ResponseMetadata>"
    text = f"<{name}Result>{result}</{name}Result>{about}"
    return "text/xml", f'<{name}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{text}</{name}Response>'
