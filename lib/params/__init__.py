"""The params of an environment: one strict model, read from params/<env>.yml."""

from lib.params.model import ROOT, Params, load

__all__ = ["ROOT", "Params", "load"]
