"""The hostile probes of the login (lib/probes/tables/login): sends each row of the table, and records its answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from lib.login import application, visitor
from lib.login.engines import cut, flipped
from lib.login.stage import Stage
from lib.names import LOGIN
from lib.probes import model
from lib.probes.model import OAUTH2_PROXY, Probe
from lib.probes.reporting import results
from lib.probes.reporting.results import Result
from lib.probes.runner import RetryPolicy
from lib.probes.targets import this_mesh
from lib.probes.transport.messages import Reply, Request, prepare
from lib.probes.transport.sockets import over_sockets
from lib.record.verdicts import RED
from lib.run import Run

EVIL = "https://evil.example/"
WORKERS = 6  # probes at once
RETRY = RetryPolicy()
Answer = str | list[str]


def ask(run: Run, only: Sequence[str] = ()) -> list[Result]:
    """Send the probes of the table, or those with the ids `only`; record and return their results."""
    probes = [probe for probe in model.load(model.LOGIN) if not only or probe.id in only]
    world = OAUTH2_PROXY if run.params.login_engine == OAUTH2_PROXY else LOGIN
    if why := application.why_off(run):
        found = [results.skipped(probe, world, why) for probe in probes]
    else:
        stage = Stage(run)
        with ThreadPoolExecutor(WORKERS) as pool:
            found = list(pool.map(lambda probe: settled(partial(_once, stage, world, probe)), probes))
    for one in found:
        this_mesh.keep(run, one)
    return found


def settled(once: Callable[[], Result], retry: RetryPolicy = RETRY) -> Result:
    """Return the result of `once`; a red one is asked again, like all probes, until it is right twice in a row."""
    answers: list[Result] = []

    def asked() -> Result:
        answers.append(once())
        return answers[-1]

    got = retry.ask(asked, lambda one: one.verdict not in RED, retry.streak)
    return replace(got.value if got.held else answers[0], tries=got.tries)


def _once(stage: Stage, world: str, probe: Probe) -> Result:
    try:
        if probe.how != "http":
            return results.judge(probe, world, SCENARIOS[probe.how](stage))
        reply = stage.send(prepare(probe, stage.value, stage.host, f"login-{probe.id}"))
        return results.judge(probe, world, stage.answer(reply), reply)
    except Exception as error:
        return results.failed(probe, world, f"{type(error).__name__}: {error}")


def _back(stage: Stage, change: Callable[[dict], dict]) -> Answer:
    """Return to the callback with a changed state."""
    browser = stage.visitor()
    flow = browser.begin()
    code = visitor.parameter(browser.callback(flow), "code")
    state = browser.engine.encoded(change(browser.engine.decoded(flow.state)))
    return stage.answer(browser.ask(visitor.callback_path(code, state)))


def _verifier(stage: Stage, change: Callable[[str], str]) -> Answer:
    """Return to the callback with a changed PKCE verifier."""
    browser = stage.visitor()
    flow = browser.begin()
    held = {name: change(browser.jar[name]) for name in browser.flow_cookies(flow, "verifier") if name in browser.jar}
    return stage.answer(browser.return_with(flow, held))


def _other_browser(stage: Stage) -> Answer:
    attacker = stage.visitor()
    return stage.answer(stage.visitor().ask(attacker.callback(attacker.begin())))


def _swapped_state(stage: Stage) -> Answer:
    browser = stage.visitor()
    one, two = browser.begin(), browser.begin()
    code = visitor.parameter(browser.callback(two), "code")
    return stage.answer(browser.ask(visitor.callback_path(code, one.state)))


def _made_up_csrf(stage: Stage) -> Answer:
    browser = stage.visitor()
    flow = browser.begin()
    content = browser.engine.decoded(flow.state)
    flow_id, dot, _ = content["csrf_token"].rpartition(".")  # not every engine has an id in it
    content["csrf_token"] = f"{flow_id}{dot}{'A' * 43}="
    state = browser.engine.encoded(content)
    code = visitor.parameter(browser.callback(flow), "code")
    names = browser.engine.flow_cookies(state, "nonce")
    cookies = {**browser.jar, **dict.fromkeys(names, content["csrf_token"])}
    return stage.answer(browser.ask(visitor.callback_path(code, state), cookies=cookies))


def _replayed(stage: Stage) -> Answer:
    browser = stage.visitor()
    back = browser.callback(browser.begin())
    browser.ask(back)
    return stage.answer(browser.ask(back))


def _injected_code(stage: Stage) -> Answer:
    victim, attacker = stage.visitor(), stage.visitor()
    code = visitor.parameter(victim.callback(victim.begin()), "code")
    return stage.answer(attacker.ask(visitor.callback_path(code, attacker.begin().state)))


def _other_verifier(stage: Stage) -> Answer:
    browser = stage.visitor()
    one, two = browser.begin(), browser.begin()
    wrong = browser.jar[browser.flow_cookies(one, "verifier")[0]]
    return stage.answer(browser.return_with(two, dict.fromkeys(browser.flow_cookies(two, "verifier"), wrong)))


def _error_reported(stage: Stage) -> Answer:
    browser = stage.visitor()
    state = browser.begin().state
    return stage.answer(browser.ask(f"{application.CALLBACK}?error=access_denied&state={state}"))


def _no_cookies(stage: Stage) -> Answer:
    browser = stage.visitor()
    return stage.answer(browser.ask(browser.callback(browser.begin()), cookies={}))


def _two_tabs(stage: Stage) -> Answer:
    browser = stage.visitor()
    backs = [browser.callback(browser.begin(path)) for path in ("/uuid", "/headers")]
    return [stage.answer(browser.ask(back)) for back in reversed(backs)]


def _fixation(stage: Stage) -> Answer:
    browser = stage.visitor()
    planted = {name: stage.second[name] for name in browser.engine.session[:2]}
    browser.jar |= planted
    browser.log_in()
    kept = [name for name, value in planted.items() if browser.jar[name] == value]
    return "200 planted" if kept else stage.answer(browser.ask("/headers"))


def _page(stage: Stage, path: str, *headers: str) -> Answer:
    """Log in from a page on that an attacker chose; return where the person ends."""
    browser = stage.visitor()
    return stage.answer(browser.ask(browser.callback(browser.begin(path, *headers))))


def _challenge(stage: Stage) -> Answer:
    reply = stage.visitor().ask("/", "Accept: application/json")
    return f"{reply.status} {reply.headers.get('www-authenticate', 'nothing').split()[0]}"


def _plain_http(stage: Stage) -> Answer:
    request = Request("GET", f"{application.CALLBACK}?code=x&state=y", (f"Host: {stage.host}",))
    (reply,) = over_sockets(f"{stage.host}:80")([request])
    kept = "cookie" if "set-cookie" in reply.headers else "https"
    return f"{reply.status} {kept if reply.headers.get('location', '').startswith('https://') else 'plain'}"


def cookies_answer(reply: Reply) -> str:
    """Return whether every cookie that a reply sets is for this host alone, and out of reach of scripts."""
    texts = reply.headers.get("set-cookie", "").lower().replace("; ", ";").split(", __host-")
    lines = [f"{text};" for text in texts if not re.match("[^=]*=(deleted)?;", text)]
    wanted = (";path=/;", ";secure;", ";httponly;", ";samesite=lax;")
    weak = [text for text in lines if not all(part in text for part in wanted) or "domain=" in text]
    return f"{reply.status} {'weak' if weak or not lines else 'secure'}"


def _header(stage: Stage, name: str, wanted: str) -> Answer:
    reply = stage.person.ask("/html", cookies=stage.session)
    return f"{reply.status} {wanted if wanted in reply.headers.get(name, '') else 'missing'}"


def _without(name: str) -> Callable[[dict], dict]:
    return lambda content: {key: value for key, value in content.items() if key != name}


SCENARIOS: dict[str, Callable[[Stage], Answer]] = {
    "other_browser": _other_browser,
    "swapped_state": _swapped_state,
    "state_elsewhere": partial(_back, change=lambda content: {**content, "url": EVIL}),
    "state_other_page": lambda stage: _back(stage, lambda found: {**found, "url": f"https://{stage.host}/uuid"}),
    "state_without_csrf": partial(_back, change=_without("csrf_token")),
    "made_up_csrf": _made_up_csrf,
    "replayed": _replayed,
    "injected_code": _injected_code,
    "other_verifier": _other_verifier,
    "no_verifier": partial(_verifier, change=lambda text: ""),
    "cut_verifier": partial(_verifier, change=cut),
    "old_verifier": lambda stage: _verifier(stage, stage.engine.unsealed),
    "flipped_verifier": partial(_verifier, change=flipped),
    "error_reported": _error_reported,
    "no_cookies": _no_cookies,
    "two_tabs": _two_tabs,
    "without_pkce": lambda stage: stage.keycloak(code_challenge="", code_challenge_method=""),
    "plain_pkce": lambda stage: stage.keycloak(code_challenge_method="plain"),
    "redirect_elsewhere": lambda stage: stage.keycloak(redirect_uri=EVIL),
    "redirect_longer": lambda stage: stage.keycloak(redirect_uri=f"https://{stage.host}{application.CALLBACK}/../x"),
    "redirect_userinfo": lambda stage: stage.keycloak(
        redirect_uri="@".join([f"https://{stage.host}", "evil.example/"])
    ),
    "redirect_http": lambda stage: stage.keycloak(redirect_uri=f"http://{stage.host}{application.CALLBACK}"),
    "implicit": lambda stage: stage.keycloak(response_type="token"),
    "fixation": _fixation,
    "double_slash": partial(_page, path="//evil.example/"),
    "forwarded_host": lambda stage: _page(stage, "/headers", "X-Forwarded-Host: evil.example"),
    "challenge": _challenge,
    "plain_http": _plain_http,
    "flow_cookies": lambda stage: cookies_answer(stage.visitor().ask("/headers")),
    "session_cookies": lambda stage: cookies_answer(stage.visitor().log_in()),
    "framing": partial(_header, name="x-frame-options", wanted="DENY"),
    "caching": partial(_header, name="cache-control", wanted="store"),
}


def differences() -> list[dict[str, str]]:
    """Return the probes that the two engines answer differently by the table, each with the reason."""
    return [
        {
            "id": probe.id,
            "title": probe.title,
            "envoy": probe.expected(LOGIN),
            OAUTH2_PROXY: probe.expected(OAUTH2_PROXY),
            "because": probe.because,
        }
        for probe in model.load(model.LOGIN)
        if probe.oauth2_proxy
    ]
