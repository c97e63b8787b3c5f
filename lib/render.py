"""The templates of lib/templates, filled."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined


def rendered(template: str, **values) -> str:
    """Return a template of lib/templates filled with values, escaped; a name that has no value is an error."""
    return _environment().get_template(template).render(**values)


def source(template: str) -> str:
    """Return a file of lib/templates as it is."""
    environment = _environment()
    return environment.loader.get_source(environment, template)[0]


@cache
def _environment() -> Environment:
    loader = PackageLoader("lib")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
