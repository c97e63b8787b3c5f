"""Copy the notebooks to work/, where a learner edits and runs them in JupyterLab; `make lab` calls this.

Git ignores work/. Links, manifests and `Run.open` work there as in notebooks/. A copy stays as the learner left it. If
its original changes, the copy is renewed; a copy that the learner changed is first renamed to <name>.kept-<time>.ipynb.
"""

from __future__ import annotations

import hashlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from ipykernel.ipkernel import IPythonKernel

ROOT = Path(__file__).resolve().parent.parent
LEDGER = ".copies.json"  # in work/: by notebook, the SHA-256 of its original and of the copy when they were written


def main() -> int:
    """Renew the copies of this repository's notebooks; print a line for each notebook that was kept aside."""
    for path in renew(ROOT / "notebooks", ROOT / "work", datetime.now(UTC)):
        print(f"The original of a notebook changed. Your copy is now {path.relative_to(ROOT)}.")
    return 0


def renew(originals: Path, work: Path, now: datetime) -> list[Path]:
    """Write the copies that are missing or outdated; return the changed copies that were renamed."""
    work.mkdir(exist_ok=True)
    ledger = work / LEDGER
    written = json.loads(ledger.read_text(encoding="utf-8")) if ledger.exists() else {}
    kept = []
    for original in [*originals.glob("*.ipynb"), *originals.glob("labs/*.ipynb")]:
        name = original.relative_to(originals).as_posix()
        copy, last = work / name, written.get(name, {})
        if copy.exists() and last.get("original") == _digest(original):
            continue
        if copy.exists() and _digest(copy) != last.get("copy"):
            kept.append(copy.rename(copy.with_name(f"{copy.stem}.kept-{now:%Y%m%dT%H%M%SZ}.ipynb")))
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(for_this_kernel(original.read_text(encoding="utf-8")), encoding="utf-8")
        written[name] = {"original": _digest(original), "copy": _digest(copy)}
    ledger.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    return kept


def for_this_kernel(notebook: str) -> str:
    """Return a notebook's JSON with the language facts that this Python's kernel reports.

    JupyterLab writes them into each notebook it opens. If they differ, it marks the notebook as changed.
    """
    content = json.loads(notebook)
    content["metadata"]["language_info"] = IPythonKernel.language_info
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
