"""What a photograph lies over goes on as it was: the grid loads more, a search ends."""

from __future__ import annotations

import re
import time
from pathlib import Path

from web.many import many_photographs

from fastsam_batch import Corpus


def test_the_grid_loads_more_after_a_photograph(tmp_path: Path, serve_app, open_page) -> None:
    from fastsam_batch.web.app import make_app

    page = open_page("/", base_url=serve_app(make_app(Corpus.open(many_photographs(tmp_path, 130)))))
    cards = page.locator(".photographs li")
    cards.nth(59).wait_for()
    page.locator(".photographs .open").first.click()
    page.locator(".stage").wait_for()
    asked = []
    page.on("request", lambda request: asked.extend(re.findall(r"/api/images\?offset=(\d+)", request.url)))
    # Every question the page asks, those too that end before they reach the network.
    page.evaluate(
        "() => { const real = fetch; window.asked = 0; window.fetch = (...all) => (window.asked++, real(...all)) }"
    )
    page.go_back()
    cards.first.wait_for()
    for count in (120, 130):
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        cards.nth(count - 1).wait_for(state="attached")
    assert page.get_by_role("button", name="Show more photographs").is_hidden()
    assert asked == ["60", "120"] and page.evaluate("window.asked") == 2

    card = cards.nth(101)  # far down: it lies where it lay, after a photograph and after loading the page anew
    card.scroll_into_view_if_needed()
    page.wait_for_function("() => history.state.scroll === scrollY")
    place = card.bounding_box()
    card.locator(".open").click()
    page.locator(".stage").wait_for()
    page.go_back()
    card.wait_for()
    assert card.bounding_box() == place
    page.reload()
    card.wait_for()
    page.wait_for_function("() => history.state.scroll === scrollY && scrollY > 0")
    assert abs(card.bounding_box()["y"] - place["y"]) < 2


def test_leaving_a_photograph_shows_what_lay_behind_as_it_was(tmp_path: Path, serve_app, open_page) -> None:
    from fastsam_batch.web.app import make_app

    page = open_page("/", base_url=serve_app(make_app(Corpus.open(many_photographs(tmp_path, 60)))))
    card = page.locator(".photographs li").nth(40)
    card.evaluate("each => each.scrollIntoView({block: 'end'})")
    place = card.bounding_box()
    for leave in (lambda: page.keyboard.press("Escape"), lambda: page.get_by_role("button", name="Back").click()):
        card.locator(".open").evaluate("each => { each.click(); each.blur() }")  # as browsers click that focus no link
        page.locator(".stage").wait_for()
        leave()
        card.wait_for()
        assert card.bounding_box() == place
    page.keyboard.press("ArrowDown")  # from nowhere: to a card in sight
    box = page.locator(".photographs .open:focus").bounding_box()
    assert box["y"] >= 0 and box["y"] + box["height"] <= 800 and card.bounding_box() == place


def test_a_photograph_keeps_the_filters_of_the_grid_it_came_from(tmp_path: Path, serve_app, open_page) -> None:
    from fastsam_batch.web.app import make_app

    corpus = Corpus.open(many_photographs(tmp_path, 130))
    page = open_page("/?min_area=5", base_url=serve_app(make_app(corpus)))
    cards = page.locator(".photographs li")
    cards.nth(59).wait_for()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    cards.nth(119).wait_for(state="attached")
    cards.nth(100).scroll_into_view_if_needed()
    place = cards.nth(100).bounding_box()
    cards.nth(100).locator(".open").click()
    page.locator(".stage").wait_for()
    assert "min_area=5" in page.url
    page.keyboard.press("Escape")
    cards.nth(100).wait_for()
    assert "min_area=5" in page.url and cards.nth(100).bounding_box() == place
    assert page.locator("[name=min_area]").input_value() == "5"


def test_words_that_were_typed_and_not_sent_stay(open_page) -> None:
    page = open_page("/?q=a+cup")
    words, where = page.get_by_label("Find masks"), page.locator("[name=where]")
    page.locator(".hits .open").first.wait_for()
    where.evaluate("field => { field.value = 'area > 5' }")
    words.fill("a long query half typed")
    page.locator(".hits .open").first.click()
    page.locator(".stage .edge").first.wait_for()
    page.locator(".stage svg").first.click(position={"x": 40, "y": 40})
    page.wait_for_url("**prompt=**")
    assert words.input_value() == "a long query half typed" and where.input_value() == "area > 5"
    page.get_by_role("button", name="Back (Escape)").click()
    page.locator(".hits .open").first.wait_for()
    assert words.input_value() == "a long query half typed"
    page.goto("/?q=a+mug")
    page.goto("/?q=a+cup")
    page.go_back()  # another query's address: its words come
    page.locator(".hits .open").first.wait_for()
    assert words.input_value() == "a mug"
    words.fill("half typed")
    page.locator("#home").click()
    page.locator(".photographs .open").first.wait_for()
    assert words.input_value() == ""


def test_a_search_ends_under_a_photograph(open_page) -> None:
    page = open_page("/?q=a+cup")
    page.locator(".hits .open").first.click()
    page.locator(".stage .edge").first.wait_for()
    page.go_back()
    page.locator(".hits").wait_for()
    waiting = []
    page.route("**/api/search*", lambda route: waiting.append(route))
    page.reload()
    page.get_by_text("Searching …").wait_for()
    page.go_forward()
    page.locator(".stage .edge").first.wait_for()
    page.go_back()
    page.get_by_text("Searching …").wait_for()
    assert len(waiting) == 1
    waiting[0].continue_()
    page.locator(".hits .open").first.wait_for()
    before = page.locator(".hits .open").count()
    page.get_by_role("searchbox").fill("a rocket")
    page.keyboard.press("Enter")
    page.get_by_text("Searching …").wait_for()  # over what was found before, which is not to be used any more
    assert page.locator(".past[inert] .open").count() == before
    deadline = time.monotonic() + 15
    while len(waiting) < 2 and time.monotonic() < deadline:  # the words are there before the question
        page.wait_for_timeout(20)
    waiting[1].continue_()
    page.locator(".hits .open").first.wait_for()
    assert page.locator(".past").count() == 0
