"""Follow the advice of `why`: run the command that it prints, or else do what a person does (tests.support.hands)."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from lib.diagnose.diagnosis import Diagnosis
from lib.kubernetes import kubectl
from lib.labs.fault import Fault
from lib.labs.lab import NO_SIDECAR, Lab, key
from lib.polling import until
from tests.support.hands import HANDS, shell

FOLLOWED = 90  # seconds until the proxies have followed an advice; some of them restart a part
LATE = "policy-just-applied"  # the cause as long as the proxies do not follow
STEADY = 15  # seconds after which a cause is not one of a moment, when one proxy has followed and another has not
STEPS = 4  # at most: an advice may uncover the next cause
# A later apply of the runbook does not remove a label that another program added
HOME, OUTSIDER = NO_SIDECAR.split("/")
LABEL = {"sidecar.istio.io/inject": None}
NO_LABEL = kubectl.merge("deployment", OUTSIDER, HOME, {"spec": {"template": {"metadata": {"labels": LABEL}}}})


def follow(lab: Lab, asked: Fault, found: Diagnosis, undo: ExitStack) -> tuple[str, Diagnosis]:
    """Follow each advice until the request is healed; return what was done, and the last diagnosis.

    Args:
        lab: The lab, with the fault in it.
        asked: The fault, whose request is asked again.
        found: What `why` said.
        undo: Takes what must be undone at last, besides the fault.
    """
    done: list[str] = []
    while not healed(asked, found) and len(done) < STEPS and can_follow(found):
        how, asked = step(lab, asked, found, undo)
        done.append(how)
        found = until(partial(asked.ask, lab), settled(asked, found.cause), deadline=FOLLOWED).value or found
        print(how, found, sep="\n")
    return "; then ".join(dict.fromkeys(done)), found


def settled(asked: Fault, before: str) -> Callable[[Diagnosis], bool]:
    """Return the judgement whether a request is healed, or has another cause for some time, whose advice is next."""
    cause, since = before, 0.0

    def judge(found: Diagnosis) -> bool:
        nonlocal cause, since
        if found.cause != cause:
            cause, since = found.cause, time.monotonic()
        lasts = cause not in (before, LATE) and time.monotonic() - since > STEADY
        return healed(asked, found) or (lasts and can_follow(found))

    return judge


def healed(fault: Fault, found: Diagnosis) -> bool:
    """Return whether a fault's request gets its right answer: one that passed by mistake must now need a token."""
    if fault.prediction == "200":
        return found.cause in ("no-token", "allowed")
    if fault.cause == "unknown-provider":
        return found.cause == "external-authorizer"  # it decides again
    return ": 200" in found.refused


def can_follow(found: Diagnosis) -> bool:
    return bool(found.command or any(re.search(words, found.change) for words, _, _ in HANDS))


def step(lab: Lab, asked: Fault, found: Diagnosis, undo: ExitStack) -> tuple[str, Fault]:
    """Follow one advice; return what was done, and the request that comes next."""
    if not found.command:
        words, done, hand = next(one for one in HANDS if re.search(one[0], found.change))
        return done, hand(lab, asked, re.search(words, found.change), undo)
    if asked.caller == NO_SIDECAR:
        undo.callback(shell, f"{NO_LABEL} && {kubectl.rolled_out('deployment', OUTSIDER, HOME)}")
    shell(found.command)
    lab.changes |= {key(one): one for one in lab.policies()}  # heal must look at the lab's objects
    if found.command.startswith("echo "):
        manifest = json.loads(shlex.split(found.command)[1])
        lab.changes[key(manifest)] = manifest
    return "the command", asked
