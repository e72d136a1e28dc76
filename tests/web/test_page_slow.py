"""The page over a slow network."""

from __future__ import annotations

from playwright.sync_api import Route
from web.test_page import heard


def test_words_typed_before_the_page_is_ready_stay(browser, served: str) -> None:
    page = browser.new_page()
    held: list[Route] = []
    page.route("**/api/corpus*", lambda route: held.append(route))
    with page.expect_request("**/api/corpus*"):
        page.goto(f"{served}/?q=a+cup&min_score=0.1")
    page.get_by_role("searchbox").fill("a rocket")
    held[0].continue_()
    heard(page, "masks in")
    assert page.get_by_role("searchbox").input_value() == "a rocket"
    assert page.locator("[name=min_score]").input_value() == "0.1"
    page.close()
