"""Picked masks wherever they are shown, and labels that are renamed by mouse, by keys and slowly."""

from __future__ import annotations

from web.test_page import heard, search

PAUSE = 500  # milliseconds: longer than the tray waits to be drawn anew


def pick_two(page) -> None:
    """One mask picked as a cup, another one as a rocket."""
    heard(page, "masks in")
    page.locator(".hits .pick").first.click()
    search(page, "a rocket")
    page.locator(".hits .pick[aria-pressed=false]").first.click()


def labels_of(page) -> list[str]:
    return sorted(page.locator("#tray .labels button").all_text_contents())


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


def test_from_one_new_name_to_the_next(open_page) -> None:
    page = open_page("/?q=a+cup")
    pick_two(page)
    tray = page.get_by_role("region", name="Picked masks")
    tray.get_by_role("button", name="Rename a cup").click()
    page.keyboard.type("a mug")
    tray.get_by_role("button", name="Rename a rocket").click()
    page.wait_for_timeout(PAUSE)
    page.keyboard.type("a ship")
    page.keyboard.press("Enter")
    assert labels_of(page) == ["Rename a mug (1)", "Rename a ship (1)"]
    tray.get_by_role("button", name="Rename a mug").click()
    page.keyboard.press("Tab")
    page.wait_for_timeout(PAUSE)
    assert page.evaluate("document.activeElement.dataset.label") == "a ship"


def test_a_slow_click_leaves_the_field_of_a_new_name(open_page) -> None:
    page = open_page("/?q=a+cup")
    pick_two(page)
    tray = page.get_by_role("region", name="Picked masks")
    tray.get_by_role("button", name="Rename a cup").click()
    tray.get_by_role("button", name="Put all back").click(delay=PAUSE)
    assert tray.is_hidden()


def test_a_browser_that_keeps_nothing(browser, served: str) -> None:
    page = browser.new_page()
    page.add_init_script(
        "Object.defineProperty(window, 'sessionStorage', {get() { throw new DOMException('no', 'SecurityError') }})"
    )
    page.goto(f"{served}/?q=a+cup")
    page.locator(".hits .pick").first.click()
    assert "1 mask picked" in page.locator("#tray").inner_text()
    page.close()
