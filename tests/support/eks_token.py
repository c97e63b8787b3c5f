"""Tokens as `aws eks get-token` makes them (awscli, customizations/eks/get_token.py), and their URLs."""

import base64

PREFIX = "k8s-aws-v1."


def made(session, cluster, endpoint=None, expires=60):
    """A token for the cluster by the boto3 session, of the STS at `endpoint` or of Amazon's."""
    sts = session.client("sts", endpoint_url=endpoint)
    sts.meta.events.register(
        "before-sign.sts.GetCallerIdentity",
        lambda request, **_: request.headers.add_header("x-k8s-aws-id", cluster),
    )
    return closed(sts.generate_presigned_url("get_caller_identity", ExpiresIn=expires, HttpMethod="GET"))


def opened(token):
    """The URL in a token."""
    body = token.removeprefix(PREFIX)
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()


def closed(url):
    """The token of a URL."""
    return PREFIX + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")
