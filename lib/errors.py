"""What can go wrong, as one tree; every message says what was expected, what was found and what fixes it.

RunbookError
├── ParamsError      a params file or a value in it
├── MissingStep      an earlier step of the series has not been done
├── RedCheck         a step ended with red checks
├── TimedOut         something did not become true before its deadline
├── Locked           another run holds the cluster
├── BundleError      a bundle is incomplete or was changed
├── NotWritable      a folder or a file cannot be written
├── AwsError         AWS refused, or answered otherwise than expected
├── ClusterError     the Kubernetes API refused, or answered otherwise than expected
├── IstioError       istioctl or the mesh
├── LegacyError      an old policy or gateway that has no equal today
└── KeycloakError    Keycloak refused, or answered otherwise than expected
"""


class RunbookError(Exception):
    """One sentence: what was expected, what was found, what to do."""

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows of it (IPython asks for it by this name): the sentence, not where it arose."""
        return [f"{type(self).__name__}: {self}"]


class ParamsError(RunbookError):
    """A params file, or a value in it, is not what the runbook understands."""


class MissingStep(RunbookError):
    """An earlier step of the series has not been done; names the notebook to run."""


class RedCheck(RunbookError):
    """A step ended with red checks; raised by `Run.finish` alone."""


class TimedOut(RunbookError):
    """Something did not become true before its deadline; keeps the last thing seen."""


class Locked(RunbookError):
    """Another run holds the cluster; names who."""


class BundleError(RunbookError):
    """A bundle is incomplete or was changed; names the files."""


class NotWritable(RunbookError):
    """A folder or a file cannot be written; says why, as the operating system does."""


class AwsError(RunbookError):
    """AWS refused, or answered otherwise than expected.

    Attributes:
        code: AWS's error code, such as "AccessDenied"; "" if the runbook itself found the problem.
        operation: the API operation, such as "CreateVpc"; "" if no operation was refused.
        missing: the IAM action that the caller lacks, such as "ec2:CreateVpc"; "" if none is known.
    """

    def __init__(self, message: str, code: str = "", operation: str = "", missing: str = "") -> None:
        super().__init__(message)
        self.code, self.operation, self.missing = code, operation, missing


class ClusterError(RunbookError):
    """The Kubernetes API refused, or answered otherwise than expected.

    Attributes:
        status: the HTTP status of the answer; 0 without an answer.
        reason: what the API server says, without the advice of the message.
    """

    def __init__(self, message: str, status: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class IstioError(RunbookError):
    """istioctl failed, or the mesh answered otherwise than expected."""


class LegacyError(RunbookError):
    """An old policy or gateway has no equal today, or cannot be read; names the field."""


class KeycloakError(RunbookError):
    """Keycloak refused, or answered otherwise than expected.

    Attributes:
        status: the HTTP status of the answer; 0 without an answer.
        error: OAuth's error code, such as "invalid_grant" (RFC 6749, 5.2), or the admin API's complaint.
    """

    def __init__(self, message: str, status: int = 0, error: str = "") -> None:
        super().__init__(message)
        self.status, self.error = status, error
