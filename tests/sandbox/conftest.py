"""What the sandbox's tests share: one AWS endpoint for all of them, and how they ask for refusals."""

import pytest
from botocore.exceptions import ClientError

from tests.support.eks_world import World


@pytest.fixture(scope="session")
def endpoints():
    made = []
    yield made
    for one in made:
        one.server.stop()


@pytest.fixture
def world(endpoints, tmp_path_factory):
    """The last endpoint, or a new one if another test's moto has emptied its account; its EKS is gone afterwards."""
    if not endpoints or not endpoints[-1].whole():
        endpoints.append(World(tmp_path_factory.mktemp("endpoint")))
    with endpoints[-1].installed():
        yield endpoints[-1]
        endpoints[-1].empty()


@pytest.fixture
def refusal():
    """Calls boto3 and returns the refusal: HTTP status, code, message."""

    def ask(call, **values):
        with pytest.raises(ClientError) as refused:
            call(**values)
        error = refused.value.response
        return error["ResponseMetadata"]["HTTPStatusCode"], error["Error"]["Code"], error["Error"]["Message"]

    return ask
