"""The answers that a mesh can give, by short codes: `401 J18` says the status and who said it with what words."""

from __future__ import annotations

import re
from urllib.parse import unquote

# code: what Envoy's JWT filter says in the body (source/common/jwt/status.cc). 401, but J16 is 403.
JWT = {
    "J1": "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
    "J2": "Jwt header is an invalid Base64url encoded",
    "J3": "Jwt header is an invalid JSON",
    "J4": "Jwt header [alg] field is required and must be a string",
    "J5": "Jwt header [alg] is not supported",
    "J6": "Jwt header [kid] field is not a string",
    "J7": "Jwt payload is an invalid Base64url encoded",
    "J8": "Jwt payload is an invalid JSON",
    "J9": "field is not an integer",  # Jwt payload [exp] …, also [nbf] and [iat]
    "J10": "field is not a positive 64 bit integer",
    "J11": "field is not a string",  # Jwt payload [aud] … or string list; [iss], [sub], [jti]
    "J12": "Jwt signature is an invalid Base64url encoded",
    "J13": "Jwt issuer is not configured",
    "J14": "Jwt not yet valid",
    "J15": "Jwt is expired",
    "J16": "Audiences in Jwt are not allowed",
    "J17": "Jwks doesn't have key to match kid or alg from Jwt",
    "J18": "Jwt verification fails",
    "J19": "Jwt is missing",
    "J20": "Jwks remote fetch is failed",
}

RBAC = "RBAC: access denied"

# status: the body of Envoy's codec, at whichever hop (an application says it in words of its own)
CODEC = {
    400: "Bad Request",
    403: "Forbidden",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
}

UNREAD = ("codec", "reset", "refused", "alert", "closed", "timeout")

# code: what the table shows for it, beside Envoy's own words above
MEANINGS = {
    "app": "the application answered",
    "R": RBAC,
    "codec": "Envoy refused the request before any filter saw it",
    "route": "the gateway has no route for it",
    "bare": "the refusal has no body (HEAD), so only the access log says who refused",
    "upstream": "the proxy did not get through to the pod",
    "reset": "the connection was reset before any HTTP",
    "refused": "nothing listens there",
    "alert": "the TLS handshake was refused",
    "closed": "the connection was closed without an answer",
    "timeout": "nothing came back in time",
    **JWT,
}


def code(status: int, reason: str, body: str, headers: dict[str, str]) -> str:
    """Return the code of one answer: who refused with which words, `app` where the application itself answered.

    `status` 0 is a connection without an answer, `reason` then its cause in a word (reset, refused, alert, closed,
    timeout). `headers` have lower-case names.
    """
    if not status:
        return reason if reason in MEANINGS else "closed"
    if status >= 400 and not body and headers.get("content-length", "0").strip("0").isdigit():
        return "bare"
    if "grpc-status" in headers:  # gRPC's refusals are HTTP 200, their words a header
        body = body or unquote(headers.get("grpc-message", ""))
    if status in (401, 403) or headers.get("grpc-status", "0") != "0":
        found = [name for name, text in JWT.items() if text in body]
        if found:
            return found[0]
        if body.strip() == RBAC:
            return "R"
    if body == CODEC.get(status):
        return "codec"
    if "x-envoy-upstream-service-time" in headers:
        return "app"
    if status == 503:
        return "upstream"
    if status == 404 and not body:
        return "route"
    return "codec" if status in (400, 403, 426, 431, 501) else "app"


def text(status: int, code: str) -> str:
    """Return an answer as the tables write it, as in `401 J18`."""
    return f"{status} {code}"


def refined(answer: str, log_details: str) -> str:
    """Return a bare answer with the code of the access log's %RESPONSE_CODE_DETAILS%; any other answer unchanged."""
    status, _, code = answer.partition(" ")
    if code != "bare":
        return answer
    found = (name for name in ("R", "app", *JWT) if re.match(details(name), log_details))
    return f"{status} {next(found, code)}"


def fits(answer: str, wanted: str) -> bool:
    """Whether an answer is the wanted one as far as it tells: of a bare one only the status does."""
    status, _, code = answer.partition(" ")
    return answer == wanted or (code == "bare" and status == wanted.partition(" ")[0])


def logged(answer: str) -> bool:
    """Whether who gave this answer has read the headers, so that its access log can name the request."""
    return answer.partition(" ")[2] not in UNREAD


def details(code: str) -> str:
    """Return what Envoy's access log says for a code in %RESPONSE_CODE_DETAILS%, as a pattern; "" if it is not told.

    Envoy writes spaces as underscores, and names the policy that matched.
    """
    if code in ("J9", "J10", "J11"):
        return r"jwt_authn_access_denied\{Jwt_payload_.*" + re.escape(JWT[code].replace(" ", "_"))
    if code in JWT:
        return r"jwt_authn_access_denied\{" + re.escape(JWT[code].replace(" ", "_"))
    return {"R": r"rbac_access_denied_matched_policy\[", "app": "via_upstream", "route": "route_not_found"}.get(
        code, ""
    )
