"""What the sandbox's tests share: one AWS endpoint for all of them, and how they ask for refusals."""

import pytest
from botocore.exceptions import ClientError

from tests.support.eks_world import World


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("endpoint"))
    yield made
    made.server.stop()


@pytest.fixture
def world(endpoint):
    yield endpoint
    endpoint.empty()


@pytest.fixture
def refusal():
    """Calls boto3 and returns the refusal: HTTP status, code, message."""

    def ask(call, **values):
        with pytest.raises(ClientError) as refused:
            call(**values)
        error = refused.value.response
        return error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"], error["Error"]["Message"]

    return ask
