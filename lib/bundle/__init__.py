"""The bundle of a run: seal, sign, verify and compare it, and render its pages."""

import sys

# jsonschema, which nbformat imports too, compiles 38 grammars at its import if it finds this package. That takes 1.2 s,
# for a check of IRIs that no schema here asks for.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
