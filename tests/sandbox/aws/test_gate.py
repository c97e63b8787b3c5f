"""The gate of the AWS endpoint: what is not signed, or not rightly, does not come through; each call is put down."""

import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

ASKED = [
    ("sts", "get_caller_identity", {}, "InvalidClientTokenId", "SignatureDoesNotMatch"),
    ("iam", "list_users", {}, "InvalidClientTokenId", "SignatureDoesNotMatch"),
    ("ec2", "describe_vpcs", {}, "AuthFailure", "AuthFailure"),
    ("eks", "list_clusters", {}, "UnrecognizedClientException", "InvalidSignatureException"),
    ("s3", "list_buckets", {}, "InvalidAccessKeyId", "SignatureDoesNotMatch"),
    ("dynamodb", "list_tables", {}, "UnrecognizedClientException", "InvalidSignatureException"),
]


@pytest.mark.parametrize(("service", "call", "values", "unknown", "wrong"), ASKED)
def test_only_requests_signed_by_a_known_key_pass(world, refusal, service, call, values, unknown, wrong):
    held = world.session.get_credentials()
    cases = [
        (keys("AKIANOBODYNOBODYNOBO", "secret"), unknown),
        (keys(held.access_key, "guessed"), wrong),
        (keys(held.access_key, held.secret_key, "token"), unknown),
    ]
    for options, code in cases:
        assert refusal(getattr(world.client(service, **options), call), **values)[:2] == (403, code)
    unsigned = world.client(service, config=Config(signature_version=UNSIGNED))
    assert refusal(getattr(unsigned, call), **values)[0] == 403
    assert [call["user"] for call in world.calls()] == [""] * 4
    assert getattr(world.client(service), call)(**values)["ResponseMetadata"]["HTTPStatusCode"] == 200


@pytest.mark.parametrize(
    "change",
    [
        {"url": "/?Action=GetCallerIdentity&Version=2011-06-15"},
        {"body": b"Action=ListUsers&Version=2010-05-08"},
        {"X-Amz-Date": "20200101T000000Z"},
        {"Host": "sts.amazonaws.com"},
    ],
)
def test_a_signed_request_can_be_sent_again_but_not_changed(world, change):
    sent = signed(world, "sts", "get_caller_identity")
    assert send(world, sent) == 200
    assert send(world, {**sent, **change}) == 403


def test_a_signature_covers_the_body_for_s3_too(world):
    world.client("s3").create_bucket(Bucket="bodies")
    sent = signed(world, "s3", "put_object", Bucket="bodies", Key="k", Body=b"right")
    assert send(world, sent) == 200
    assert send(world, {**sent, "body": b"wrong"}) == 403


def test_a_signed_request_does_not_reach_motos_own_pages(world):
    def elsewhere(request, **_):
        request.url = f"{world.server.url}/moto-api/data.json"

    s3 = world.client("s3", config=Config(retries={"max_attempts": 0}))
    s3.meta.events.register("before-sign.s3.ListBuckets", elsewhere)
    with pytest.raises(ClientError, match="one of moto's own"):
        s3.list_buckets()


def keys(access_key, secret, token=None):
    return {"aws_access_key_id": access_key, "aws_secret_access_key": secret, "aws_session_token": token}


def signed(world, service, call, **values):
    """What boto3 sent: method, url (path), body and the headers by their names."""
    seen = {}
    client = world.client(service, config=Config(retries={"max_attempts": 0}))
    client.meta.events.register(f"before-send.{service}.*", lambda request, **_: seen.update(request=request))
    getattr(client, call)(**values)
    sent = seen["request"]
    if hasattr(sent.body, "seek"):
        sent.body.seek(0)
    body = sent.body.read() if hasattr(sent.body, "read") else sent.body
    headers = {name: value.decode() if isinstance(value, bytes) else value for name, value in sent.headers.items()}
    host = f"127.0.0.1:{world.server.port}"
    return {"method": sent.method, "url": sent.url.partition(host)[2], "body": body, "Host": host, **headers}


def send(world, sent):
    headers = {name: value for name, value in sent.items() if name not in ("method", "url", "body", "Content-Length")}
    return world.raw(sent["method"], sent["url"], sent["body"], headers)


@pytest.mark.parametrize("path", ["/", "/moto-api/data.json", "/latest/meta-data/", "/clusters", "/favicon.ico"])
def test_paths_without_a_signature(world, path):
    assert world.raw("GET", path) == 403


def test_a_call_that_moto_lacks_is_an_error_that_names_it(world, refusal):
    status, _, message = refusal(world.client("ec2").describe_vpc_block_public_access_options)
    assert status == 501 and "the sandbox lacks this" in message


def test_the_log_of_calls(world):
    world.client("iam").list_roles()
    world.client("s3").create_bucket(Bucket="calls")
    world.cluster()
    made = world.client("sts").get_caller_identity()
    by_action = {(call["service"], call["action"]): call for call in world.calls()}
    expected = {("iam", "ListRoles"), ("ec2", "DescribeSubnets"), ("eks", "CreateCluster"), ("s3", "CreateBucket")}
    assert expected <= set(by_action)
    call = by_action["sts", "GetCallerIdentity"]
    assert call["user"] == made["Arn"] and call["status"] == 200
    assert call["request_id"] == made["ResponseMetadata"]["RequestId"] and call["time"].endswith("+00:00")
