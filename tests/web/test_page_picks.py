"""Picked masks wherever they are shown."""

from __future__ import annotations

from web.test_page import heard


def test_hits_behind_a_photograph_show_what_was_picked_on_it(open_page) -> None:
    page = open_page("/?q=a+cup")
    heard(page, "masks in")
    page.locator(".hits .pick").first.click()
    page.locator(".hits .open").first.click()
    page.locator(".mask-list .pick[aria-pressed=true]").click()
    page.keyboard.press("Escape")
    first = page.locator(".hits .pick").first
    first.wait_for()
    assert first.get_attribute("aria-pressed") == "false" and page.locator("#tray").is_hidden()
    first.click()
    assert first.get_attribute("aria-pressed") == "true" and "Picked" in first.inner_text()
