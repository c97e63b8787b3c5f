"""The library behind the notebooks.

    from lib import Run

A notebook starts its step with `Run.open`. The other modules work without a `Run` too, from a Python prompt.
"""

__version__ = "0.1.0"


def __getattr__(name: str) -> type:
    # Lazy, so that `python -m lib token`, which kubectl calls for every command, imports no notebook machinery.
    if name == "Run":
        from lib.run import Run

        return Run
    raise AttributeError(name)
