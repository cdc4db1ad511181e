"""A page of another origin tracks through a real browser; every event is a row, once, in one visit."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.chromium import BrowserError
from tests.browser.conftest import Page

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

FORM = "'application/x-www-form-urlencoded; charset=UTF-8'"


def titles(rows: list[dict[str, Any]]) -> list[str]:
    return [row["title"] for row in rows]


def test_every_way_of_sending_is_stored_once_in_one_visit(page: Page) -> None:
    run = page.browser.run
    assert run("beacon('beacon')") is True
    assert run(f"post(query('form', {{}}), {FORM})") == 204
    assert run("post(query('json', {}), 'application/json')") == 204
    assert run("bulk(['bulk0', 'bulk1', 'bulk2'])") == 204
    assert run("image(query('image', {send_image: 1}))") == 1
    assert run("burst(12)") == [204] * 12
    wanted = sorted(
        ["beacon", "form", "json", "image", *(f"bulk{n}" for n in range(3)), *(f"burst{n}" for n in range(12))]
    )
    rows = page.rows(len(wanted))
    assert titles(rows) == wanted
    assert len({row["visit"] for row in rows}) == 1
    assert page.browser.troubles == []


def test_an_id_that_comes_late_stays_in_its_visit(page: Page) -> None:
    run = page.browser.run
    assert run(f"Promise.all([0, 1].map((n) => post(query('early' + n, {{_id: ''}}), {FORM})))") == [204, 204]
    page.rows(2)
    assert run(f"post(query('ping', {{ping: 1}}), {FORM})") == 204
    assert run("beacon('late')") is True
    rows = page.rows(3)
    assert [title for title in titles(rows) if title not in ("", "ping")] == ["early0", "early1", "late"]
    assert len({row["visit"] for row in rows}) == 1
    assert page.browser.troubles == []


def test_a_refused_request_may_be_read_by_the_page(page: Page) -> None:
    assert page.browser.run(f"post(query('x', {{idsite: 99}}), {FORM})") == 400
    assert [trouble for trouble in page.browser.troubles if "CORS" in trouble or "network" in trouble] == []


def test_the_browser_tells_of_an_answer_that_may_not_be_read(page: Page) -> None:
    """Else the tests above could not fail: the page's own server sends no CORS headers."""
    page.browser.run("begin(location.origin.replace('localhost', '127.0.0.1') + '/page.html', '')")
    with pytest.raises(BrowserError, match="may not be read"):
        page.browser.run(f"post('x', {FORM})")
    assert any("CORS" in trouble for trouble in page.browser.troubles), page.browser.troubles


def test_a_copy_as_an_image_after_a_post_is_one_event(page: Page) -> None:
    assert page.browser.run("twice('copy')") == 1
    assert page.browser.run(f"post(query('after', {{}}), {FORM})") == 204
    rows = page.rows(2)
    assert titles(rows) == ["after", "copy"]
