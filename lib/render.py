"""The templates of lib/templates, filled."""

from __future__ import annotations

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template


def rendered(template: str, **values: object) -> str:
    """Return a template of lib/templates filled with values, escaped; a name that has no value is an error."""
    return compiled(template).render(**values)


def compiled(template: str) -> Template:
    """Return a template of lib/templates, compiled once in a process."""
    return _environment().get_template(template)


def source(template: str) -> str:
    """Return a file of lib/templates as it is."""
    return _loader().get_source(_environment(), template)[0]


def fenced(language: str, text: str) -> str:
    """Return the text as a block of Markdown, with a fence that is longer than each run of backticks in the text."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


@cache
def _loader() -> PackageLoader:
    return PackageLoader("lib")


@cache
def _environment() -> Environment:
    loader = _loader()
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
