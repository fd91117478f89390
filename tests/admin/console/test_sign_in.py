from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlmodel import select

from admin.auth import TRIES, WeakPassword, check_password, create_user, set_password, verify
from bot.errors import ConfigError
from bot.tables import User
from jobs.services import Services
from tests.admin.console.conftest import PASSWORD, Console, csrf_of


def test_cy_signs_in_and_out(door: Console) -> None:
    assert door.sign_in().location == "/admin"
    assert "Cy" in door.text("/admin")
    door.does("/admin/sign-out")
    assert door.get("/admin").location == "/admin/sign-in?next=/admin"


def test_a_wrong_password_and_an_unknown_name_look_the_same(door: Console) -> None:
    wrong, unknown = door.sign_in(password="wrong horse battery"), door.sign_in(name="Di")
    assert wrong.status_code == unknown.status_code == 401
    token = door.token
    assert wrong.text.replace(token, "").replace("Cy", "") == unknown.text.replace(token, "").replace("Di", "")


def test_guessing_is_throttled_for_all_processes_together(open_console: Callable[..., Console]) -> None:
    one, other = open_console(), open_console()
    for _ in range(TRIES):
        assert one.sign_in(password="guess guess guess").status_code == 401
    refused = other.sign_in()
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) > 0


def test_guessing_is_throttled_without_redis(open_console: Callable[..., Console], house: Services) -> None:
    door = open_console(replace(house.settings, redis_url="unix:///nowhere/redis.sock"))
    for _ in range(TRIES):
        assert door.sign_in(password="guess guess guess").status_code == 401
    assert door.sign_in().status_code == 429


def test_one_guesser_does_not_lock_others_out(door: Console) -> None:
    for _ in range(TRIES + 1):
        refused = door.post(
            "/admin/sign-in", {"name": "Cy", "password": "guess guess"}, headers={"X-Forwarded-For": "x, 203.0.113.9"}
        )
    assert refused.status_code == 429
    there = {"name": "Cy", "password": PASSWORD}
    assert door.post("/admin/sign-in", there, headers={"X-Forwarded-For": "203.0.113.8"}).status_code == 303


def test_only_a_proxy_on_this_machine_says_where_the_browser_is(door: Console) -> None:
    peer = {"REMOTE_ADDR": "203.0.113.9"}
    for place in range(TRIES + 1):
        refused = door.post(
            "/admin/sign-in",
            {"name": "Cy", "password": "guess guess"},
            headers={"X-Forwarded-For": f"10.0.0.{place}"},
            environ_base=peer,
        )
    assert refused.status_code == 429


def test_signing_in_forgets_the_wrong_tries_before(door: Console) -> None:
    for _ in range(TRIES - 1):
        door.sign_in(password="guess guess guess")
    assert door.sign_in().status_code == 303
    door.does("/admin/sign-out")
    assert door.sign_in(password="guess guess guess").status_code == 401


def test_the_session_is_another_one_after_signing_in(door: Console) -> None:
    before = door.token
    with door.client.session_transaction() as session:
        session["planted"] = "by somebody else"
    door.sign_in()
    with door.client.session_transaction() as session:
        assert "planted" not in session
        assert session["csrf"] != before


@pytest.mark.parametrize("token", ["", "wrong", "ünïcode", "x" * 10_000])
def test_a_form_without_its_token_is_refused(door: Console, token: str) -> None:
    door.get("/admin/sign-in")
    page = door.client.post("/admin/sign-in", data={"name": "Cy", "password": PASSWORD, "csrf": token})
    assert page.status_code == 400
    assert door.get("/admin").status_code == 303


def test_a_token_of_another_session_is_refused(open_console: Callable[..., Console]) -> None:
    mine, theirs = open_console(), open_console()
    page = mine.client.post("/admin/sign-in", data={"name": "Cy", "password": PASSWORD, "csrf": theirs.token})
    assert page.status_code == 400


def test_every_form_of_every_page_has_a_token(console: Console, shop: int) -> None:
    for path in (
        "/admin",
        f"/admin/bots/{shop}",
        "/admin/models/1",
        "/admin/knowledge/1",
        "/admin/channels",
        "/admin/settings",
    ):
        page = console.text(path)
        assert page.count('method="post"') == page.count('name="csrf"')


def test_a_new_password_ends_the_other_sessions(open_console: Callable[..., Console]) -> None:
    phone, desk = open_console(), open_console()
    phone.sign_in()
    desk.sign_in()
    page = desk.does("/admin/settings/password", {"old": PASSWORD, "new": "another horse battery"})
    assert "Cy" in page
    assert phone.get("/admin").status_code == 303
    assert desk.get("/admin").status_code == 200


def test_the_old_password_is_asked_for(console: Console) -> None:
    page = console.post("/admin/settings/password", {"old": "not it at all", "new": "another horse battery"})
    assert page.status_code == 422
    assert "The current password is wrong." in page.text


def test_a_deleted_user_is_signed_out(open_console: Callable[..., Console]) -> None:
    cy, di = open_console(), open_console()
    create_user(cy.services.db, "Di", PASSWORD)
    cy.sign_in()
    di.sign_in("Di")
    with cy.read() as session:
        ids = {row.name: row.id for row in session.exec(select(User))}
    cy.does(f"/admin/settings/users/{ids['Di']}/delete")
    assert di.get("/admin").status_code == 303
    assert cy.post(f"/admin/settings/users/{ids['Cy']}/delete").status_code == 409


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/\\evil.example", "/admin/\\evil", "/admin//evil.example",
     "javascript:alert(1)", "/admin/\nSet-Cookie: a=b", "/administrator", "/"],
)  # fmt: skip
def test_nobody_is_sent_elsewhere_after_signing_in(door: Console, target: str) -> None:
    assert door.sign_in(next=target).location == "/admin"


def test_signing_in_leads_back_to_the_page_that_was_asked_for(door: Console) -> None:
    there = door.get("/admin/bots?lang=en")
    assert "/admin/sign-in?next=" in there.location
    token = csrf_of(door.text(there.location))
    form = {"name": "Cy", "password": PASSWORD, "next": "/admin/bots?lang=en", "csrf": token}
    assert door.client.post("/admin/sign-in", data=form).location == "/admin/bots?lang=en"


def test_the_cookie_is_kept_from_scripts_and_other_sites(open_console: Callable[..., Console], house: Services) -> None:
    cookie = open_console().sign_in().headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Secure" not in cookie
    public = open_console(replace(house.settings, public_url="https://bot.example"))
    assert "Secure" in public.client.get("/admin/sign-in", base_url="https://bot.example").headers["Set-Cookie"]


@pytest.mark.parametrize("path", ["/admin/sign-in", "/admin", "/admin/bots/99", "/admin/static/console.css"])
def test_pages_carry_the_headers_that_keep_browsers_safe(console: Console, path: str) -> None:
    with console.get(path) as response:
        headers = response.headers
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"


def test_scripts_of_the_signed_out_get_json(door: Console) -> None:
    answer = door.get("/admin/knowledge/1/progress", headers={"Accept": "application/json"})
    assert (answer.status_code, answer.json["error"]["code"]) == (401, "signed_out")  # type: ignore[index]


@pytest.mark.parametrize("password", ["short", "Cy's name".casefold()[:2] * 5, "aaaaaaaaaa", "x" * 201])
def test_weak_passwords_are_refused(password: str) -> None:
    with pytest.raises(WeakPassword):
        check_password("cycycycycy", password)


def test_users_are_made_checked_and_renewed(house: Services) -> None:
    create_user(house.db, "Di", PASSWORD)
    assert verify(house.db, "Di", PASSWORD) is not None
    assert verify(house.db, "Di", PASSWORD + "!") is None
    set_password(house.db, "Di", "another horse battery")
    assert verify(house.db, "Di", PASSWORD) is None
    for name in ("Di", "", "x" * 101):
        with pytest.raises(ConfigError):
            create_user(house.db, name, PASSWORD)
    with pytest.raises(ConfigError):
        set_password(house.db, "Nobody", PASSWORD)
