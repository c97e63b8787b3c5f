"""Bearer tokens for EKS, in the form of `aws eks get-token`, and their URLs.

Source: awscli, customizations/eks/get_token.py.
"""

import base64

PREFIX = "k8s-aws-v1."


def made(session, cluster, endpoint=None, expires=60):
    """Return a token for the cluster, signed by the boto3 session; `endpoint` is the STS, by default Amazon's."""
    sts = session.client("sts", endpoint_url=endpoint)
    sts.meta.events.register(
        "before-sign.sts.GetCallerIdentity",
        lambda request, **_: request.headers.add_header("x-k8s-aws-id", cluster),
    )
    return closed(sts.generate_presigned_url("get_caller_identity", ExpiresIn=expires, HttpMethod="GET"))


def opened(token):
    """Return the URL in a token."""
    body = token.removeprefix(PREFIX)
    return base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode()


def closed(url):
    """Return the token that holds a URL."""
    return PREFIX + base64.urlsafe_b64encode(url.encode()).decode().rstrip("=")
