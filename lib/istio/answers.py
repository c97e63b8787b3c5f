"""Short codes for the answers of a mesh: `401 J18` is the status, and the code of the component and its message."""

from __future__ import annotations

import re
from urllib.parse import unquote

# code: the sentence of Envoy's JWT filter in the body (source/common/jwt/status.cc). The status is 401, for J16 403.
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

# status: the body that Envoy's codec writes, at any hop. An application's body differs
CODEC = {
    400: "Bad Request",
    403: "Forbidden",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
}

UNREAD = ("codec", "reset", "refused", "alert", "closed", "timeout")

# code: its meaning in the tables; for Envoy's JWT filter its sentence
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
    """Return the code of one answer: the refusing component and its message, or `app` for the application.

    Args:
        status: The HTTP status; 0 for a connection without an answer.
        reason: If the status is 0, the cause in a word: reset, refused, alert, closed or timeout.
        body: The answer's body.
        headers: The answer's headers, by lower-case names.
    """
    if not status:
        return reason if reason in MEANINGS else "closed"
    if status >= 400 and not body and headers.get("content-length", "0").strip("0").isdigit():
        return "bare"
    if "grpc-status" in headers:  # a gRPC refusal is HTTP 200, with its message in a header
        body = body or unquote(headers.get("grpc-message", ""))
    if status in (401, 403) or headers.get("grpc-status", "0") != "0":
        sentence = next((code for code, text in JWT.items() if text in body), "")
        if sentence:
            return sentence
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
    refined_code = next((name for name in ("R", "app", *JWT) if re.match(details(name), log_details)), code)
    return f"{status} {refined_code}"


def fits(answer: str, wanted: str) -> bool:
    """Return whether an answer equals the wanted one; of a bare answer only the status counts."""
    status, _, code = answer.partition(" ")
    return answer == wanted or (code == "bare" and status == wanted.partition(" ")[0])


def logged(answer: str) -> bool:
    """Return whether the answering proxy has read the headers: only then can its access log name the request."""
    return answer.partition(" ")[2] not in UNREAD


def details(code: str) -> str:
    """Return the pattern of a code's %RESPONSE_CODE_DETAILS% in Envoy's access log; "" if the log has none for it.

    Envoy writes spaces as underscores, and names the policy that matched.
    """
    if code in ("J9", "J10", "J11"):
        return r"jwt_authn_access_denied\{Jwt_payload_.*" + re.escape(JWT[code].replace(" ", "_"))
    if code in JWT:
        return r"jwt_authn_access_denied\{" + re.escape(JWT[code].replace(" ", "_"))
    return {"R": r"rbac_access_denied_matched_policy\[", "app": "via_upstream", "route": "route_not_found"}.get(
        code, ""
    )
