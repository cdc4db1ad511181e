"""Refusal in a real browser: the opt-out page in a frame, its script in a page, and what browsers ask by a header."""

from __future__ import annotations

import time

import pytest

from ingest.optout.texts import TEXTS
from tests.browser.chromium import SECONDS, BrowserError
from tests.browser.conftest import Opener, Page

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

FORM = "'application/x-www-form-urlencoded; charset=UTF-8'"
EN = TEXTS["en"]
STATUS = "document.querySelector('[role=status]').textContent"
CLICK = "document.querySelector('button').click()"


def send(page: Page, title: str) -> None:
    assert page.browser.run(f"post(query('{title}', {{}}), {FORM})") == 204


def titles(page: Page, last: str) -> list[str]:
    """Of all rows, once one has the title `last`."""
    deadline = time.monotonic() + SECONDS
    while last not in (found := [row["title"] for row in page.rows(0)]):
        assert time.monotonic() < deadline, found
    return found


def shown(page: Page, text: str, session: str = "") -> None:
    deadline = time.monotonic() + SECONDS
    found = None
    while found != text:
        assert time.monotonic() < deadline, found
        try:
            found = page.browser.run(STATUS, session)
        except BrowserError:  # between two pages
            found = None
        time.sleep(0.05)


@pytest.mark.parametrize("blocked", [True, False], ids=["third-party-cookies-blocked", "allowed"])
def test_the_page_in_a_frame_of_another_site(open_page: Opener, blocked: bool) -> None:
    page = open_page(*(("--test-third-party-cookie-phaseout",) if blocked else ()))
    url = f"http://127.0.0.1:{page.settings.collector_port}/opt-out"
    page.browser.run(f"frame('{url}?idsite=1&language=en')")
    frame = page.browser.frame(url)
    shown(page, EN.counted, frame)
    send(page, "before")
    page.browser.run(CLICK, frame)
    shown(page, EN.refused, frame)
    send(page, "refused")
    page.browser.run(CLICK, frame)
    shown(page, EN.counted, frame)
    send(page, "undone")
    assert titles(page, "undone") == ["before", "undone"]


def test_the_script_in_the_site_s_own_page(open_page: Opener) -> None:
    """The collector is another port of the page's host here, so that the first-party cookie reaches it."""
    page = open_page(collector="localhost")
    script = f"http://localhost:{page.settings.collector_port}/opt-out.js?idsite=1&language=de"
    german = TEXTS["de"]
    page.browser.run(f"script('{script}')")
    shown(page, german.counted)
    send(page, "before")
    page.browser.run(CLICK)
    shown(page, german.refused)
    assert "mtm_consent_removed=" in page.browser.run("document.cookie")
    assert page.browser.run("JSON.stringify(_paq)") == '[["optUserOut"]]'
    send(page, "refused")
    page.browser.run(f"script('{script}')")  # as after a reload: the choice is read
    shown(page, german.refused)
    page.browser.run(CLICK)
    shown(page, german.counted)
    assert "mtm_consent_removed=" not in page.browser.run("document.cookie")
    send(page, "undone")
    assert titles(page, "undone") == ["before", "undone"]
    assert page.browser.troubles == []


@pytest.mark.parametrize("header", ["DNT", "Sec-GPC"])
def test_what_the_browser_asks_is_heeded(open_page: Opener, header: str) -> None:
    page = open_page()
    send(page, "before")
    page.browser.call("Network.setExtraHTTPHeaders", headers={header: "1"})
    send(page, "asked")
    page.browser.call("Network.setExtraHTTPHeaders", headers={})
    send(page, "after")
    assert titles(page, "after") == ["after", "before"]


def test_nothing_is_stored_before_consent_where_the_policy_asks_for_it(open_page: Opener) -> None:
    page = open_page()
    (page.settings.sites / "1.toml").write_text('[privacy]\npreset = "consent-required"\n')
    deadline = time.monotonic() + SECONDS
    number = 0
    while True:  # until the new policy is in force: an event without consent is not stored
        number += 1
        send(page, f"without{number}")
        assert page.browser.run(f"post(query('with{number}', {{consent: 1}}), {FORM})") == 204
        if f"without{number}" not in titles(page, f"with{number}"):
            break
        assert time.monotonic() < deadline, "the new policy is not in force"
    send(page, "never")
    assert page.browser.run(f"post(query('agreed', {{consent: 1}}), {FORM})") == 204
    assert "never" not in titles(page, "agreed")
