"""The page over a slow network: what is typed meanwhile, and answers that come when nobody waits for them."""

from __future__ import annotations

from playwright.sync_api import Route
from web.test_page import IMAGE, heard


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


def test_a_photograph_that_was_left_asks_for_nothing_more(open_page) -> None:
    page = open_page("/")
    held: list[Route] = []
    page.route("**/api/image?*", lambda route: held.append(route))
    with page.expect_request("**/api/image?*"):
        page.evaluate(
            "path => { history.pushState({}, '', path); dispatchEvent(new PopStateEvent('popstate')) }",
            f"/?image={IMAGE}&prompt=add:200,200",
        )
    page.keyboard.press("Escape")
    page.locator(".photographs .open").first.wait_for()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    held[0].continue_()
    page.wait_for_timeout(1000)
    assert not [url for url in asked if "/api/select" in url]
    assert "Selected" not in page.locator("#said").inner_text()


def test_what_was_selected_before_is_not_picked_for_what_is_asked_now(open_page) -> None:
    page = open_page(f"/?image={IMAGE}&prompt=text:a+helmet")
    pick = page.locator(".told").get_by_role("button", name="Pick it")
    pick.wait_for()
    held: list[Route] = []
    page.route("**/api/select*", lambda route: held.append(route))
    with page.expect_request("**/api/select*"):
        page.get_by_label("Select by words").fill("a face")
        page.keyboard.press("Enter")
    assert page.locator(".told").evaluate("each => each.inert")
    held[0].continue_()
    page.locator(".told:not([inert])").get_by_role("button", name="Pick").wait_for()


def test_hits_of_the_past_go_with_the_answer_that_there_are_none(open_page) -> None:
    page = open_page("/?q=a+cup")
    page.locator(".hits .open").first.wait_for()
    held: list[Route] = []
    page.route("**/api/search?*min_calibrated=0*", lambda route: held.append(route))  # whether any mask is near
    with page.expect_request("**/api/search?*min_calibrated=0*"):
        page.get_by_role("searchbox").fill("nothing")
        page.keyboard.press("Enter")
    page.get_by_text("No mask looks enough like this.").first.wait_for()
    assert page.locator(".past").count() == 0
    held[0].continue_()
    page.get_by_role("button", name="Show the nearest masks anyway").wait_for()
