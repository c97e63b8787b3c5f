"""Requests that no client of AWS would send: signed by botocore, then changed."""

from __future__ import annotations

from urllib.parse import urlencode

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest

FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}


def signed(keys, service, host, method="POST", path="/", body="", headers=None, region="us-east-1", unsigned=None,
           form=None, change=None):  # fmt: skip
    """Method, path, body and headers of a request.

    Args:
        keys: botocore's Credentials.
        service: of the credential's scope.
        host: the Host header.
        method: GET, POST, …
        path: with the query, encoded.
        body: text or bytes.
        headers: signed.
        region: of the scope.
        unsigned: headers that the signature does not cover.
        form: parameters of a query protocol, in place of body and headers.
        change: takes and returns the Authorization header.
    """
    if form is not None:
        body, headers = urlencode(form), {**FORM, **(headers or {})}
    body = body.encode() if isinstance(body, str) else body
    request = AWSRequest(method, f"http://{host}{path}", {"Host": host, **(headers or {})}, body)
    signer = S3SigV4Auth if service.lower() == "s3" else SigV4Auth
    signer(keys, service, region).add_auth(request)
    sent = {name: value for name, value in request.headers.items()}
    if change:
        sent["Authorization"] = change(sent["Authorization"])
    return method, path, body, {**sent, **(unsigned or {})}
