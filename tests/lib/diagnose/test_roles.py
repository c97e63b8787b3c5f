"""Each slip about a claim has its cause, and says what the token has and what the rule wants."""

import pytest

from lib.diagnose.roles import find_slip
from lib.istio.evaluator import Miss

REALM = "request.auth.claims[realm_access][roles]"


def roles(*names):
    return {"realm_access": {"roles": list(names)}}


@pytest.mark.parametrize(
    ("key", "wanted", "claims", "cause", "why"),
    [
        ("request.auth.claims[groups]", "staff", {"groups": ["/staff"]}, "group-slash",
         "has /staff, and the rule requires staff"),
        ("request.auth.claims[groups]", "/staff", {"groups": ["staff"]}, "group-slash", "differ in a slash"),
        (REALM, "editor, admin", roles("Editor"), "role-case", "has Editor, and the rule requires editor"),
        (REALM, "editor", {"realm_access": {"roles": "reader editor"}}, "roles-in-one-string", "'reader editor'"),
        (REALM, "editor", roles("reader,editor"), "roles-in-one-string", "'reader,editor'"),
        ("request.auth.claims[realm_access.roles]", "editor", roles("editor"), "claim-path",
         "has editor at [realm_access][roles], and the rule reads [realm_access.roles]"),
        (REALM, "editor", {**roles("reader"), "resource_access": {"app": {"roles": ["editor"]}}}, "claim-path",
         "has editor at [resource_access][app][roles]"),
        (REALM, "not editor", roles("editor"), "role-excluded", "notValues lists editor"),
    ],
)  # fmt: skip
def test_a_slip_is_named(key, wanted, claims, cause, why):
    found = find_slip(Miss(key, wanted, "editor"), claims, "roles/p")
    assert found.cause == cause and why in found.why and found.change


def test_the_change_names_the_key_step_by_step():
    found = find_slip(Miss("request.auth.claims[realm_access.roles]", "editor", ""), roles("editor"), "roles/p")
    assert f"write the key {REALM} into roles/p" in found.change


@pytest.mark.parametrize(
    ("key", "claims", "edit"),
    [
        ("request.auth.claims[realm_access.roles]", roles("editor"),
         ("key", "request.auth.claims[realm_access.roles]", REALM)),
        (REALM, roles("Editor"), ("values", "editor", "Editor")),
        (REALM, {**roles("reader"), "nickname": "editor"}, ()),
    ],
)  # fmt: skip
def test_a_policy_is_edited_for_another_spelling_and_not_for_another_claim(key, claims, edit):
    assert find_slip(Miss(key, "editor", ""), claims, "roles/p").edit == edit


@pytest.mark.parametrize("claims", [{}, roles("reader"), {"realm_access": "x"}, {"realm_access": {"roles": None}}])
def test_a_role_that_the_user_lacks_is_no_slip(claims):
    assert find_slip(Miss(REALM, "editor", ""), claims, "roles/p") is None


def test_other_conditions_are_none_of_its_business():
    assert find_slip(Miss("request.headers[x]", "editor", ""), roles("editor"), "roles/p") is None
