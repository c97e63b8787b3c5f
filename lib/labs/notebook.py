"""What the lab notebooks call: break one thing, predict the answer, see it, ask why, heal it."""

from __future__ import annotations

import difflib
from contextlib import ExitStack

import yaml
from IPython.display import Markdown

from lib.diagnose.diagnosis import Diagnosis
from lib.errors import RunbookError
from lib.labs.callback import FAULTS as CALLBACK_FAULTS
from lib.labs.fault import Fault
from lib.labs.faults import FAULTS
from lib.labs.lab import Lab, Object, key
from lib.labs.login import FAULTS as LOGIN_FAULTS
from lib.labs.rules import FAULTS as RULE_FAULTS
from lib.run import Run

NAMES = {one.name: one for one in [*FAULTS, *RULE_FAULTS, *LOGIN_FAULTS, *CALLBACK_FAULTS]}


class Bench:
    """One lab, with at most one fault in it."""

    def __init__(self, run: Run) -> None:
        self.lab = Lab(run)
        self.lab.build()
        self._fault: Fault | None = None
        self._injected = ExitStack()

    def break_it(self, name: str) -> Markdown:
        """Heal the last fault and inject this one, of NAMES; return what changed, and the request that comes next."""
        self.heal()
        self._fault = NAMES[name].form(self.lab.run.params.gateway_api)
        self._injected.enter_context(self._fault.injected(self.lab))
        changed = object_diff(self.lab)
        shown = f"```diff\n{changed}\n```" if changed else "No object of the lab changed: the fault is elsewhere."
        question = f"Now {self._fault.asks or self._asks(self._fault)}. Which answer comes back, and who sends it?"
        return Markdown(f"Broken: **{name}**.\n\n{shown}\n\n{question}")

    def see(self, prediction: str = "") -> Markdown:
        """Ask until the fault has reached the proxies; return the answer beside the learner's prediction."""
        fault, diagnosis = self._diagnose()
        verdict = ""
        if prediction:
            verdict = "As you predicted." if prediction == fault.prediction else f"You predicted {prediction}: read on."
        return Markdown(f"`{diagnosis.refused}`\n\n{verdict}")

    def why(self) -> None:
        """Print who refused the request, why, and what to change."""
        print(self._diagnose()[1])

    def heal(self) -> Markdown:
        """Remove the fault, and wait until the lab's requests pass again."""
        fault, self._fault = self._fault, None
        self._injected.close()
        return Markdown(f"Healed: {fault.name}." if fault else "Nothing is broken.")

    def close(self) -> Markdown:
        """Heal the lab, and delete it."""
        self.heal()
        self.lab.close()
        return Markdown("The lab is deleted.")

    def _asks(self, fault: Fault) -> str:
        sent = "without a token" if fault.token(self.lab) is None else "with a token"
        return f"{fault.caller or 'a user, through the gateway,'} asks for `/headers` {sent}"

    def _diagnose(self) -> tuple[Fault, Diagnosis]:
        if not self._fault:
            raise RunbookError("Nothing is broken. Run the cell with break_it first.")
        return self._fault, self._fault.why(self.lab)


def object_diff(lab: Lab) -> str:
    """Return a unified diff of the lab's objects, before and after the fault; "" if none changed."""
    before = {key(one): one for one in lab.objects()}
    lines: list[str] = []
    for changed, after in lab.changes.items():
        name = f"{changed[1]} {changed[3]}/{changed[2]}"
        lines += difflib.unified_diff(_yaml(before.get(changed)), _yaml(after), name, name, lineterm="")
    return "\n".join(lines)


def _yaml(manifest: Object | None) -> list[str]:
    return yaml.safe_dump(manifest, sort_keys=False, width=120).splitlines() if manifest else []
