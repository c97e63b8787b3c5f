"""The administrator's login at Keycloak."""

from __future__ import annotations

import random
from collections.abc import Callable
from threading import Lock

import requests

from lib.errors import KeycloakError
from lib.keycloak.oidc import password_token
from lib.polling import until

MARGIN = 10  # seconds before its expiry at which the token is renewed; it is valid for 60
# Seconds that a refused login is tried again. While one login of a user goes on, Keycloak refuses others as it refuses
# a wrong password, and counts no failure (brute force protection; keycloak #31726).
PATIENCE = 6.0


class Administrator:
    """Logs in when a token is needed, for several threads. With `patience` 0 a refused login is final."""

    def __init__(
        self, url: str, user: str, password: str, session: requests.Session, clock: Callable[[], float]
    ) -> None:
        self._endpoint = f"{url}/realms/master/protocol/openid-connect/token"
        self._user, self._password, self._session, self._clock = user, password, session, clock
        self._token, self._until, self._lock = "", float("-inf"), Lock()
        self.patience = PATIENCE

    def bearer(self, refused: str = "") -> str:
        """Return a token that is valid for some seconds, and not the one that Keycloak `refused`."""
        with self._lock:
            if self._token == refused or self._clock() >= self._until:
                self._log_in()
            return self._token

    def _log_in(self) -> None:
        refusals: list[KeycloakError] = []

        def logged_in() -> bool:
            sent = self._clock()
            try:
                answer = password_token(
                    self._endpoint, "admin-cli", "", self._user, self._password, "", session=self._session
                )
            except KeycloakError as error:
                if error.error != "invalid_grant":
                    raise
                refusals.append(error)
                return False
            self._token, self._until = answer["access_token"], sent + answer["expires_in"] - MARGIN
            return True

        pause = random.uniform(0.2, 0.8)  # programs that were refused at once come back one after another
        if not until(logged_in, deadline=self.patience, pause=pause, reraise=(Exception,)).held:
            raise refusals[-1]
