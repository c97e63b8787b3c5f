"""What an `ensure_` function returns: the object, and whether it was created, changed or left unchanged."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

Action = Literal["created", "changed", "unchanged"]


class Ensured(NamedTuple):
    """An object as the server keeps it now, and the action that made it so."""

    object: dict[str, Any]
    action: Action
