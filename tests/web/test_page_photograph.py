"""One photograph on the screens that people have: where the masks lie, what is in sight, what a key does."""

from __future__ import annotations

from web.test_page import IMAGE, PHONE, prompts_of

SMALL = {**PHONE, "viewport": {"width": 375, "height": 740}}
WIDE = "rocket.png"  # 400 x 267


def rectangle(page, selector: str) -> list[float]:
    return page.locator(selector).first.evaluate("""each => {
      const {left, top, width, height} = each.getBoundingClientRect();
      return [left, top, width, height].map(Math.round);
    }""")


def test_a_wide_photograph_on_a_phone(open_page) -> None:
    page = open_page(f"/?image={WIDE}&mask=0", **SMALL)
    page.locator(".stage .edge").first.wait_for()
    page.wait_for_function("document.querySelector('.stage img').naturalWidth")
    assert rectangle(page, ".stage svg") == rectangle(page, ".stage img") == rectangle(page, ".stage")
    box = page.locator(".stage img").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 255 / 267)
    page.locator(".point.add").wait_for()
    x, y = map(int, prompts_of(page)[0].removeprefix("add:").split(","))
    assert abs(x - 100) <= 2 and abs(y - 255) <= 2
    last = page.locator(".mask-list .name").last
    last.scroll_into_view_if_needed()
    assert rectangle(page, ".stage")[1] < 0  # above the screen
    last.tap()
    page.wait_for_function("location.search.includes('mask=')")
    assert rectangle(page, ".stage")[1] >= 0


def test_a_mask_of_many_is_opened_with_the_photograph_in_sight(open_page) -> None:
    page = open_page(f"/?image={IMAGE}&mask=1", viewport={"width": 1280, "height": 640})
    page.locator(".stage .edge").first.wait_for()
    assert page.evaluate("scrollY") == 0
    below = "document.documentElement.scrollHeight - document.querySelector('main').getBoundingClientRect().bottom"
    assert page.evaluate(below) < 1  # nothing of the list's hangs out of it
    chosen = page.locator(".mask-list .chosen")
    assert chosen.evaluate("each => each.offsetTop - each.parentElement.scrollTop") >= 0
