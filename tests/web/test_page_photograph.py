"""One photograph on the screens that people have: where the masks lie, what is in sight, what a key does."""

from __future__ import annotations

from web.test_page import IMAGE, PHONE, on_stage, prompts_of

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


def test_chips_labels_and_a_new_name(open_page) -> None:
    page = open_page(f"/?image={IMAGE}&q=a+rocket&prompt=text:a+helmet&prompt=text:a+face&prompt=not:3,3")
    chips = page.locator(".chips li")
    chips.get_by_text("cosine").nth(1).wait_for()
    assert chips.nth(2).inner_text().startswith("\N{MINUS SIGN} point 3, 3")
    assert "weak" not in chips.nth(0).inner_text()
    assert "“a face”" in chips.nth(1).inner_text() and "weak match" in chips.nth(1).inner_text()
    page.get_by_role("button", name="Pick them").click()
    tray = page.get_by_role("region", name="Picked masks")
    renaming = tray.get_by_role("button", name="Rename")
    assert sorted(renaming.all_text_contents()) == ["Rename a face (1)", "Rename a helmet (1)"]
    tray.get_by_role("button", name="Rename a face").click()
    page.keyboard.type("a suit")
    page.keyboard.press("Escape")
    assert tray.get_by_role("button", name="Rename a face").evaluate("each => each === document.activeElement")
    page.keyboard.press("Enter")
    page.keyboard.type("a suit")
    page.keyboard.press("Enter")
    renamed = ["Rename a helmet (1)", "Rename a suit (1)"]
    assert sorted(renaming.all_text_contents()) == renamed
    page.get_by_role("button", name="Take back “a face”").click()
    page.wait_for_function("document.querySelectorAll('.chips li').length === 2")
    assert page.evaluate("document.activeElement.closest('.chips') !== null")
    page.locator(".answer", has_text="Union 1 mask").wait_for()
    page.get_by_role("button", name="Pick it").click()
    assert sorted(renaming.all_text_contents()) == renamed  # and no second label for a mask that has one
    panel = page.locator(".panel").bounding_box()
    assert panel["y"] + panel["height"] <= page.locator("#tray").bounding_box()["y"]
    page.goto("/?q=a+rocket")
    page.locator(".hits .more").first.click()
    page.locator(".source").wait_for()
    page.locator(".hits .pick[aria-pressed=false]").first.click()
    tray.get_by_role("button", name="Rename a rocket").wait_for()


def test_keys_wherever_the_focus_is(open_page) -> None:
    page = open_page(f"/?image={IMAGE}&prompt=add:200,200&prompt=add:10,10")
    page.locator(".chips li").nth(1).wait_for()
    page.locator(".stage .mask").first.wait_for()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("U")  # as with Caps Lock
    page.wait_for_function("document.querySelectorAll('.chips li').length === 1")
    page.keyboard.press("v")
    page.locator(".stage.without-masks").wait_for()
    page.keyboard.press("v")

    start, end = on_stage(page, 60, 60), on_stage(page, 250, 250)
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=3)
    assert page.locator(".drag").is_visible()
    page.keyboard.press("Escape")
    page.mouse.up()
    assert page.locator(".drag").is_hidden() and len(prompts_of(page)) == 1

    page.mouse.move(2, 2)
    page.locator(".stage").focus()
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("/^(Mask \\d|No mask).*; \\d+, \\d+$/.test(document.getElementById('said').textContent)")
    page.locator(".mask-list .name").first.hover()
    label, stage = page.locator(".hover-label").bounding_box(), page.locator(".stage").bounding_box()
    assert stage["x"] <= label["x"] and label["x"] + label["width"] <= stage["x"] + stage["width"]

    page.get_by_role("searchbox").fill("other words")
    page.keyboard.press("Escape")
    assert page.get_by_role("searchbox").input_value() == "" and page.locator(".stage").is_visible()
    page.get_by_label("Take away").check()
    page.keyboard.press("?")
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.locator(".photographs").wait_for()
    page.goto("/?q=a+cup")
    page.get_by_role("searchbox").fill("half a word")
    page.keyboard.press("Escape")
    assert page.get_by_role("searchbox").input_value() == "a cup"
