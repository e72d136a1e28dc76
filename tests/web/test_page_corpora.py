"""One port, one corpus after the other: a browser shows the pictures of neither under the other, and mixes no picks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from corpus.made_corpus import MadeCorpus, make_corpus
from web.conftest import encode, one_background
from web.test_page import IMAGE, heard

from fastsam_batch import Corpus
from fastsam_batch.corpus.photographs import Photographs

COLOUR = """image => {
  const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d');
  canvas.drawImage(image, 0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
}"""


def test_another_corpus_on_the_same_port(made_once: MadeCorpus, tmp_path: Path, serve_app, open_page) -> None:
    from fastsam_batch.web.app import make_app

    def app_of(corpus: Corpus, read=None):
        return make_app(corpus, encode=encode, background=one_background(), read=read)

    def negative(uri: str):
        return 255 - Photographs.of(corpus.info).pixels(uri)

    corpus = Corpus.open(made_once.uri)
    running: list[Any] = [app_of(corpus)]

    async def whichever(scope, receive, send) -> None:
        await running[0](scope, receive, send)

    page = open_page("/", base_url=serve_app(whichever))
    photograph = page.locator(f'.open[aria-label*="{IMAGE}"] img')
    before = photograph.evaluate(f"async image => (await image.decode(), ({COLOUR})(image))")
    page.goto("/?q=a+cup&min_calibrated=0")
    heard(page, "masks in")
    for image_id in (IMAGE, "coffee.png"):
        page.locator(f'.hits .pick:has-text("of {image_id}")').first.click()

    running[0] = app_of(Corpus.open(make_corpus(str(tmp_path / "corpus"), tmp_path, seed=1).uri), negative)
    page.goto("/")
    after = photograph.evaluate(f"async image => (await image.decode(), ({COLOUR})(image))")
    assert all(abs(a + b - 255) < 12 for a, b in zip(before, after, strict=True))
    assert page.locator("#tray").is_hidden()

    running[0] = app_of(corpus.only(["unit-0000"]))  # the first one again, without coffee.png
    page.goto("/")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export COCO").click()
    document = json.loads(Path(download.value.path()).read_text())
    assert [image["file_name"] for image in document["images"]] == [IMAGE] and len(document["annotations"]) == 1
    heard(page, "Exported 1 mask as picked.coco.json. 1 pick left out")
    assert "1 pick left out" in page.locator("#tray").inner_text()

    running[0] = make_app(Corpus.open(make_corpus(str(tmp_path / "no-embeddings"), tmp_path, dim=None).uri))
    page.goto("/")
    page.locator(".photographs .open").first.wait_for()
    assert page.get_by_role("searchbox").is_disabled() and page.get_by_role("button", name="Search").is_disabled()
    assert page.locator("#filters").is_hidden()
