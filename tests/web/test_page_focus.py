"""Where the focus goes by keys, one sees it: in the window, and neither below the bar at its top nor below the tray."""

from __future__ import annotations

import pytest
from web.test_page import IMAGE, heard

COVERED = """() => {
  const {left, top, width, height} = document.activeElement.getBoundingClientRect();
  const seen = document.elementFromPoint(left + width / 2, top + height / 2);
  return document.activeElement.contains(seen) ? null : document.activeElement.innerText;
}"""


@pytest.mark.parametrize("width", [1280, 700, 390])
def test_what_has_the_focus_is_covered_by_nothing(open_page, width: int) -> None:
    page = open_page("/?q=a+cup&min_calibrated=0", viewport={"width": width, "height": 560})
    heard(page, "masks in")
    page.locator(".hits .pick").first.click()
    covered = []
    for key, times in (("Tab", 30), ("Shift+Tab", 25), ("ArrowDown", 4), ("ArrowUp", 4)):
        for _ in range(times):
            page.keyboard.press(key)
            covered.append(page.evaluate(COVERED))
    assert not [text for text in covered if text is not None]


def test_the_cross_is_in_sight_and_names_its_mask(open_page) -> None:
    page = open_page(f"/?image={IMAGE}", viewport={"width": 1280, "height": 380})
    page.locator(".stage .mask").first.wait_for()
    page.locator(".mask-list .pick").first.click()  # a tray, over the photograph's end
    page.locator(".stage").focus()
    for _ in range(5):  # from the middle to an end of mask 4
        page.keyboard.press("Shift+ArrowDown")
    heard(page, "; 200, 360")
    assert page.locator("#said").inner_text().startswith("Mask 4, ")
    assert page.locator(".stage").evaluate("each => each.scrollTop") == 0
    cross, tray = page.locator(".cross").bounding_box(), page.locator("#tray").bounding_box()
    assert cross["y"] >= 0 and cross["y"] + cross["height"] <= tray["y"]
