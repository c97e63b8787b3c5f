"""The params of an environment: one strict model, read from params/<env>.yml."""

from lib.params.model import FLEET, ROOT, Params, load

__all__ = ["FLEET", "ROOT", "Params", "load"]
