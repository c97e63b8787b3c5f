"""The labs' bench: break one thing, foretell what comes, see it, ask why, heal it. For notebooks/labs."""

from __future__ import annotations

from contextlib import ExitStack

from IPython.display import Markdown

from lib.labs.faults import BREAKS, Break
from lib.labs.lab import Lab
from lib.run import Run

NAMES = {one.name: one for one in BREAKS}


class Bench:
    """One lab, and at most one thing in it that is broken."""

    def __init__(self, run: Run):
        self.lab = Lab(run)
        self.lab.build()
        self._broken: Break | None = None
        self._held = ExitStack()

    def break_it(self, name: str) -> Markdown:
        """Break one of NAMES (what was broken before is healed first); return what happens next, and who will ask."""
        self.heal()
        self._broken = NAMES[name]
        self._held.enter_context(self._broken.made(self.lab))
        who = self._broken.caller or "a user, through the gateway,"
        sent = "without a token" if self._broken.token(self.lab) is None else "with a token"
        told = f"Now {who} asks for `/headers` {sent}. What will come back, and from whom?"
        return Markdown(f"Broken: **{name}**. {told}")

    def see(self, prediction: str = "") -> Markdown:
        """Ask, until the break has reached the proxies; return the answer beside what was foretold."""
        found = self._settled()
        right = prediction and prediction == self._broken.prediction
        verdict = "As you foretold." if right else f"You foretold {prediction}: read on." if prediction else ""
        return Markdown(f"`{found.refused}`\n\n{verdict}")

    def why(self) -> None:
        """Print who refused it, why, and what to change."""
        print(self._settled())

    def heal(self) -> Markdown:
        """Make it sound again, and wait until it is."""
        was, self._broken = self._broken, None
        self._held.close()
        return Markdown(f"Healed: {was.name}." if was else "Nothing is broken.")

    def close(self) -> Markdown:
        """Heal, and take the lab away."""
        self.heal()
        self.lab.close()
        return Markdown("The lab is gone.")

    def _settled(self):
        if not self._broken:
            raise ValueError("expected something to be broken, got nothing; break_it first.")
        return self._broken.why(self.lab)
