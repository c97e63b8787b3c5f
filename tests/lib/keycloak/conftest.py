"""A Keycloak on loopback for the tests of this package."""

import pytest

from tests.support.fake_keycloak import FakeKeycloak


@pytest.fixture
def server():
    with FakeKeycloak() as fake:
        yield fake
