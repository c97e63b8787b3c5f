"""The helper library that the runbook's notebooks read like prose over.

    from lib import Run

opens one step; everything else works from a bare prompt too, with plain values as arguments.
"""

__version__ = "0.1.0"


def __getattr__(name: str) -> type:
    # Lazy, so that `python -m lib token`, which kubectl calls for every command, imports no notebook machinery.
    if name == "Run":
        from lib.run import Run

        return Run
    raise AttributeError(name)
