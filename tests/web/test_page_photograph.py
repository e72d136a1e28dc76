"""One photograph on the screens that people have: where the masks lie, what is in sight, what a key does."""

from __future__ import annotations

import json
from pathlib import Path

from corpus.made_corpus import MadeCorpus
from web.test_page import IMAGE, PHONE, heard, on_stage, prompts_of

from fastsam_batch import Corpus

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
    page.wait_for_function("() => document.querySelector('.stage img').naturalWidth")
    assert rectangle(page, ".stage svg") == rectangle(page, ".stage img") == rectangle(page, ".stage")
    tops = [rectangle(page, part)[1] for part in (".stage", ".modes", ".answer", ".by-words")]
    assert tops == sorted(tops)
    box = page.locator(".stage img").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 255 / 267)
    page.locator(".point.add").wait_for()
    x, y = map(int, prompts_of(page)[0].removeprefix("add:").split(","))
    assert abs(x - 100) <= 2 and abs(y - 255) <= 2
    last = page.locator(".mask-list .name").last
    last.scroll_into_view_if_needed()
    assert rectangle(page, ".stage")[1] < 0  # above the screen
    last.tap()
    page.wait_for_function("() => location.search.includes('mask=')")
    assert rectangle(page, ".stage")[1] >= 0
    page.evaluate("scrollTo(0, 0)")
    page.locator("#help").tap()
    keys = page.get_by_role("dialog")
    assert keys.evaluate("each => each.scrollTop") == 0 and "With a finger" in keys.inner_text()
    page.touchscreen.tap(5, 5)
    keys.wait_for(state="hidden")


def test_a_tablet_is_for_fingers_too(open_page) -> None:
    page = open_page("/?q=a+cup", **{**PHONE, "viewport": {"width": 820, "height": 1180}})
    page.locator(".hits .open").first.wait_for()
    page.evaluate("document.documentElement.style.fontSize = '32px'")  # as one who needs large letters has it
    sizes = page.evaluate(
        "['h1', '#q', '.detail'].map(each => getComputedStyle(document.querySelector(each)).fontSize)"
    )
    assert all(float(size.removesuffix("px")) >= 26 for size in sizes)
    page.evaluate("document.documentElement.style.fontSize = ''")
    page.evaluate("scrollTo(0, 300)")
    page.locator("#filters summary").tap()
    page.get_by_label("Least cosine").wait_for()
    letters = page.locator("input:not([type=radio], [type=checkbox])").evaluate_all(
        "all => all.map(each => parseFloat(getComputedStyle(each).fontSize))"
    )
    assert min(letters) >= 16
    assert page.evaluate("getComputedStyle(document.querySelector('.top')).position") == "static"
    page.wait_for_function("scrollY === 0")  # the fields can be seen before their toggle event is handled
    page.locator(".hits .open").first.tap()
    page.locator(".mask-list li").first.wait_for()
    small = page.evaluate(
        "[...document.querySelectorAll('button, .button, summary, input:not([type=radio], [type=checkbox])')]"
        ".filter(each => each.checkVisibility({visibilityProperty: true}))"
        ".filter(each => each.getBoundingClientRect().height < 44).map(each => each.outerHTML)"
    )
    assert not small
    page.emulate_media(forced_colors="active")
    colours = (
        "() => [...document.querySelectorAll('.stage, .swatch')].map(each => getComputedStyle(each).forcedColorAdjust)"
    )
    assert set(page.evaluate(colours)) == {"none"}


def test_a_photograph_that_is_gone(browser, made_once: MadeCorpus, serve_app) -> None:
    from fastsam_batch.web.app import make_app

    def read(uri: str):
        raise FileNotFoundError(uri)

    app = make_app(Corpus.open(made_once.uri), read=read)
    page = browser.new_page(base_url=serve_app(app))  # whose console may report the refusals
    page.goto("/")
    card = page.locator(f'.open[aria-label*="{IMAGE}"]')
    sentence = card.locator(".missing")
    sentence.wait_for()
    text = sentence.inner_text()
    assert text == f"The photograph of '{IMAGE}' is no longer where it was; put it back to see it."
    assert text in card.get_attribute("aria-label")
    assert sentence.evaluate("each => getComputedStyle(each).display") == "grid"  # which centres it
    card.click()
    page.locator(".stage .missing").wait_for()
    over = "each => [getComputedStyle(each).zIndex, getComputedStyle(each.parentElement.querySelector('svg')).zIndex]"
    assert page.locator(".stage .missing").evaluate(over) == ["1", "auto"]  # the sentence lies over the masks
    page.close()


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
    page.wait_for_function("() => document.querySelectorAll('.chips li').length === 2")
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
    tray.get_by_role("button", name="Rename a rocket").click()
    page.keyboard.type("a Falcon")
    with page.expect_download() as exported:  # the click that leaves the field is one on the button, too
        tray.get_by_role("button", name="Export COCO").click()
    names = [each["name"] for each in json.loads(Path(exported.value.path()).read_text())["categories"]]
    assert "a Falcon" in names and "a rocket" not in names
    tray.get_by_role("button", name="Rename a Falcon").click()
    page.get_by_role("searchbox").click()
    page.keyboard.type("cat")
    tray.get_by_role("button", name="Rename a Falcon").wait_for()
    assert page.get_by_role("searchbox").input_value().endswith("cat")


def test_keys_wherever_the_focus_is(open_page) -> None:
    page = open_page(f"/?image={IMAGE}&prompt=add:200,200&prompt=add:10,10")
    page.locator(".chips li").nth(1).wait_for()
    page.locator(".stage .mask").first.wait_for()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("U")  # as with Caps Lock
    page.wait_for_function("() => document.querySelectorAll('.chips li').length === 1")
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
    page.wait_for_function(
        "() => /^(Mask \\d|No mask).*; \\d+, \\d+$/.test(document.getElementById('said').textContent)"
    )
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


def test_a_tap_in_a_browser_whose_clicks_do_not_say_what_pointed(open_page) -> None:
    """Safari before 18.4."""
    page = open_page(f"/?image={IMAGE}", **PHONE)
    page.locator(".stage .mask").first.wait_for()
    x, y = on_stage(page, 200, 200)
    page.evaluate(
        """([clientX, clientY]) => {
          const stage = document.querySelector('.stage svg');
          const tap = {clientX, clientY, bubbles: true, cancelable: true};
          stage.dispatchEvent(new PointerEvent('pointerdown', {...tap, pointerType: 'touch', pointerId: 7}));
          stage.dispatchEvent(new PointerEvent('pointerup', {...tap, pointerType: 'touch', pointerId: 7}));
          stage.dispatchEvent(new MouseEvent('click', tap));
        }""",
        [x, y],
    )
    page.locator(".point.add").wait_for()
    assert len(prompts_of(page)) == 1
    page.mouse.click(x, y)
    page.locator(".point.add").nth(1).wait_for()
    assert len(prompts_of(page)) == 2  # and a mouse's click is no second one


def test_more_like_a_line_of_the_list_by_its_key(open_page) -> None:
    page = open_page(f"/?image={IMAGE}")
    page.locator(".mask-list .name").first.focus()
    page.keyboard.press("m")
    heard(page, "masks in")
    assert page.locator("h1").inner_text() == "More like this mask"
