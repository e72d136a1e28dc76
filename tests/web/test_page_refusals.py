"""What the page says where nothing is found or something is refused, and how one goes on from there."""

from __future__ import annotations

from pathlib import Path

from web.many import many_photographs
from web.test_page import IMAGE, heard

from fastsam_batch import Corpus


def test_more_like_a_mask_counts_no_least_certainty(open_page) -> None:
    page = open_page(f"/?like=2@{IMAGE}&min_calibrated=0.9")
    heard(page, "least certainty is for words alone")
    assert page.locator("#filter-count").inner_text() == "" and page.locator(".hits li").count() > 0
    page.goto(f"/?like=2@{IMAGE}&min_calibrated=0.9&min_score=1")
    heard(page, "No mask passes the filters. · least certainty")
    assert "(1)" in page.locator("#filters summary").inner_text()


def test_a_wrong_filter_and_a_search_without_hits_say_so(open_page) -> None:
    page = open_page("/?q=a+cup&min_score=0.99")
    heard(page, "No mask passes the filters.")
    assert page.locator(".hits li").count() == 0
    page.goto("/?q=nothing")
    heard(page, "No mask looks enough like this.")
    page.get_by_role("button", name="Show the nearest masks anyway").click()
    heard(page, "25 masks in")
    assert page.locator("h1").evaluate("each => each === document.activeElement")
    entries = page.evaluate("history.length")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    assert page.locator("#view").evaluate("each => each === document.activeElement")
    assert page.evaluate("history.length") == entries and "#" not in page.url
    page.goto("/?min_area=5000")
    page.get_by_text("filters apply once you search").wait_for()
    page.goto("/?q=a+cup&where=area+%3C+0")
    page.locator("#view section[aria-busy=false]").wait_for()
    assert page.get_by_role("button", name="Show the nearest").count() == 0
    page.evaluate("history.pushState({}, '', '/?q=a+cup'); dispatchEvent(new PopStateEvent('popstate'))")
    heard(page, "masks in")


def test_a_refusal_is_shown_where_it_belongs(open_page, browser, served) -> None:
    page = browser.new_page()  # whose console may report the refusals
    page.goto(f"{served}/?q=a+cup&where=aria+%3E+3")
    assert "There is no column aria" in page.get_by_role("alert").inner_text().replace("there", "There")
    page.goto(f"{served}/?q=a+cup&min_score=5")
    assert page.get_by_role("alert").inner_text().startswith("Least cosine: ")
    page.get_by_role("searchbox").fill("a rocket")
    page.keyboard.press("Enter")
    least = page.get_by_label("Least cosine")
    assert least.is_visible() and least.evaluate("each => each === document.activeElement")
    least.fill("0.123")  # as cards show it
    page.keyboard.press("Enter")
    page.wait_for_url("**q=a+rocket&min_score=0.123")
    page.goto(f"{served}/?image={IMAGE}&prompt=add:900,900")
    assert "lies outside the image" in page.get_by_role("alert").inner_text()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(f"{served}/?image={IMAGE}&prompt=box:a,b,c,d")
    assert "write x1,y1,x2,y2" in page.get_by_role("alert").inner_text()
    page.get_by_role("button", name="Take back Box a, b, c, d").click()
    page.locator(".answer", has_text="Click a thing").wait_for()
    assert said and not [text for text in said if "attribute" in text]  # one refusal, and no box of NaN
    page.goto(f"{served}/?image=nothing.png")
    assert "holds no image" in page.get_by_role("alert").inner_text()
    assert page.get_by_label("Select by words").is_hidden()
    page.close()


def test_photographs_that_did_not_come_are_asked_for_again(tmp_path: Path, browser, serve_app) -> None:
    from fastsam_batch.web.app import make_app

    page = browser.new_page(base_url=serve_app(make_app(Corpus.open(many_photographs(tmp_path, 130)))))
    asked = []
    page.route("**/api/images?offset=60*", lambda route: (asked.append(1), route.abort()))
    page.goto("/")
    page.locator(".photographs li").nth(59).wait_for()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    assert "does not answer" in page.get_by_role("alert").inner_text()
    page.wait_for_timeout(500)
    assert len(asked) == 1
    page.unroute("**/api/images?offset=60*")
    page.get_by_role("button", name="Show more photographs").click()
    page.locator(".photographs li").nth(119).wait_for(state="attached")
    assert page.get_by_role("alert").count() == 0
    page.close()
