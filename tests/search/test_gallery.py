"""Galleries: what they show and say, that they stand alone, and that nothing missing breaks them."""

from __future__ import annotations

import base64
import io
import shutil
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from corpus.made_corpus import DIM, MadeCorpus, make_corpus, write_unit
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sources.counted import CountedFile

from fastsam_batch import Corpus
from fastsam_batch.corpus.photographs import Photographs
from fastsam_batch.errors import InputError
from fastsam_batch.search.find import find_masks, hits_schema
from fastsam_batch.search.gallery import write_gallery
from fastsam_batch.search.pictures import TILE_WH, window_around
from fastsam_batch.search.sheet import WIDTH


def encode(sentences: Sequence[str]) -> np.ndarray:
    vectors = [np.random.default_rng(list(sentence.encode())).normal(size=DIM) for sentence in sentences]
    return np.asarray([vector / np.linalg.norm(vector) for vector in vectors], np.float32)


@dataclass
class Page(HTMLParser):
    """What a browser would see."""

    tags: Counter[str] = field(default_factory=Counter)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data

    def values(self, tag: str, name: str) -> list[str]:
        return [value for its_tag, its_name, value in self.attributes if (its_tag, its_name) == (tag, name)]


def html_of(made: MadeCorpus, tmp_path: Path, texts: list[str], hits: pa.Table, **options) -> Page:
    path = tmp_path / "gallery.html"
    write_gallery(str(path), Corpus.open(made.uri), hits, texts, **options)
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    return page


@pytest.fixture
def own(tmp_path: Path) -> MadeCorpus:
    """A corpus whose photographs may be moved and changed."""
    folder = tmp_path / "own"
    folder.mkdir()
    return make_corpus(str(tmp_path / "corpus"), folder)


def test_a_tar_is_read_once_for_all_of_its_photographs(tmp_path: Path) -> None:
    folder, tar = tmp_path / "photographs", tmp_path / "shard.tar"
    folder.mkdir()
    made = make_corpus(str(tmp_path / "corpus"), folder)
    with tarfile.open(tar, "w") as archive:
        for image in made.images:
            if Path(image["uri"]).exists():
                archive.add(image["uri"], image["image_id"])
    for unit_id in {image["unit_id"] for image in made.images}:
        images = [
            image | {"uri": f"counted://{tar}#{image['image_id']}"}
            for image in made.images
            if image["unit_id"] == unit_id
        ]
        names = {image["image_id"] for image in images}
        write_unit(made.uri, unit_id, images, [mask for mask in made.masks if mask["image_id"] in names])
    hits = find_masks(Corpus.open(made.uri), ["cat", "coffee cup"], encode=encode, top_k=20, min_calibrated=0)
    CountedFile.total = 0
    page = html_of(made, tmp_path, ["cat", "coffee cup"], hits)
    assert "cannot be read" not in page.text and "no longer" not in page.text
    assert len(set(hits["image_id"].to_pylist())) > 2
    assert tar.stat().st_size * 0.9 < CountedFile.total < 1.5 * tar.stat().st_size


def test_the_page_shows_every_hit_and_every_photograph(made: MadeCorpus, tmp_path: Path) -> None:
    texts = ["cat", "coffee cup"]
    hits = find_masks(Corpus.open(made.uri), texts, top_k=4, encode=encode)
    page = html_of(made, tmp_path, texts, hits)
    assert page.tags["figure"] == page.tags["img"] == 8 + 6
    assert (page.tags["h1"], page.tags["h2"], page.tags["nav"], page.tags["main"]) == (1, 3, 1, 1)
    for row in hits.to_pylist():
        assert f"{row['similarity']:.3f}" in page.text
    for alt in page.values("img", "alt"):
        assert alt
    assert "Match 1 for 'cat': mask" in page.values("img", "alt")[0]
    assert "6 of 6 photographs" in page.text
    assert "Failed images" in page.text
    pictures = [read_data_uri(source) for source in page.values("img", "src")]
    assert {picture.size for picture in pictures[:8]} == {TILE_WH}
    assert all(picture.size[0] > 300 for picture in pictures[8:])


def read_data_uri(source: str) -> Image.Image:
    head, _, data = source.partition(",")
    assert head == "data:image/jpeg;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    picture.load()
    return picture


def test_the_page_stands_alone(made: MadeCorpus, tmp_path: Path) -> None:
    hits = find_masks(Corpus.open(made.uri), ["cat"], encode=encode)
    page = html_of(made, tmp_path, ["cat"], hits)
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
    requests = [value for _, name, value in page.attributes if name in ("src", "href", "srcset", "action")]
    assert all(value.startswith(("data:", "#")) for value in requests)
    source = (tmp_path / "gallery.html").read_text(encoding="utf-8")
    assert "url(" not in source
    assert "@import" not in source
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.values("a", "href")} <= set(ids)


def test_texts_are_text(made: MadeCorpus, tmp_path: Path) -> None:
    text = "<script>alert(\"x\")</script> & 'quotes'"
    hits = find_masks(Corpus.open(made.uri), [text], top_k=1, encode=encode)
    page = html_of(made, tmp_path, [text], hits)
    assert page.tags["script"] == 0
    assert text in page.text


@pytest.mark.parametrize(
    ("least", "note"),
    [
        ({"min_score": 0.99}, "No mask scores above 0.99."),
        ({"min_calibrated": 0.5}, "No mask convinces: none has a calibrated score of 0.5 or more."),
        ({"min_calibrated": 0.5, "like": ["unicorn"]}, "No mask to compare with."),
        ({}, "No mask to compare with."),
    ],
)
def test_a_query_without_hits_says_so(made: MadeCorpus, tmp_path: Path, least: dict[str, float], note: str) -> None:
    page = html_of(made, tmp_path, ["unicorn"], hits_schema().empty_table(), **least)
    assert note in page.text
    assert page.tags["figure"] == 6


def test_photographs_that_are_gone_or_changed(own: MadeCorpus, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    (folder / "coffee.png").unlink()
    (folder / "rocket.png").write_bytes(b"no longer an image")
    shutil.copy(folder / "chelsea.png", folder / "astronaut.png")
    hits = find_masks(Corpus.open(own.uri), ["cat"], top_k=100, encode=encode)
    page = html_of(own, tmp_path, ["cat"], hits, max_hits=100)
    assert page.text.count("is no longer at") == 1 + 5
    assert page.text.count("cannot be read: ") == 1 + 5
    assert page.text.count("it is 400 x 266 pixels and was 400 x 400") == 1 + 5
    assert page.tags["img"] == len(hits) + 6 - 3 * 6
    write_gallery(str(tmp_path / "sheet.png"), Corpus.open(own.uri), hits, ["cat"])
    assert Image.open(tmp_path / "sheet.png").width == WIDTH


def test_each_photograph_is_read_once(made: MadeCorpus, tmp_path: Path) -> None:
    reads: Counter[str] = Counter()

    def read(uri: str) -> np.ndarray:
        reads[uri] += 1
        return Photographs().pixels(uri)

    hits = find_masks(Corpus.open(made.uri), ["cat", "dog"], top_k=20, encode=encode)
    html_of(made, tmp_path, ["cat", "dog"], hits, read=read, max_photographs=2)
    assert set(reads.values()) == {1}
    assert set(reads) == set(hits["uri"].to_pylist())


def test_hits_up_to_a_limit(made: MadeCorpus, tmp_path: Path) -> None:
    hits = find_masks(Corpus.open(made.uri), ["cat"], top_k=9, encode=encode)
    page = html_of(made, tmp_path, ["cat"], hits, max_hits=3, max_photographs=0)
    assert page.tags["figure"] == 3
    best, *_, last = hits["similarity"].to_pylist()[:3]
    assert f"best 3 of 9 hits, cosine {best:.3f} to {last:.3f}" in page.text


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_photographs_up_to_a_limit(made: MadeCorpus, tmp_path: Path, limit: int) -> None:
    page = html_of(made, tmp_path, [], hits_schema().empty_table(), max_photographs=limit)
    assert page.tags["figure"] == limit
    assert f"{limit} of 6 photographs" in page.text


@pytest.mark.parametrize("text", ["cat", "кот и 猫", "a very long query " * 30])
def test_the_contact_sheet(made: MadeCorpus, tmp_path: Path, text: str) -> None:
    hits = find_masks(Corpus.open(made.uri), [text], top_k=7, encode=encode)
    path = tmp_path / "sheet.png"
    write_gallery(str(path), Corpus.open(made.uri), hits, [text, "unicorn"], min_score=-1)
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width == WIDTH
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    # Both rows of hits and the photographs are there: pictures have colour, the ground has none.
    colourful = (np.ptp(pixels, axis=2) > 60).mean(axis=1) > 0.02
    bands = np.flatnonzero(np.diff(np.r_[0, colourful.astype(int)]) == 1)
    assert len(bands) >= 3


@pytest.mark.parametrize("name", ["gallery.pdf", "gallery", "gallery.jpg"])
def test_other_formats_are_refused(made: MadeCorpus, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"end its name in \.html or \.png"):
        write_gallery(str(tmp_path / name), Corpus.open(made.uri), hits_schema().empty_table(), [])


def test_a_place_that_cannot_be_written(made: MadeCorpus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    place = str(tmp_path / "file" / "gallery.html")
    with pytest.raises(InputError, match="cannot write"):
        write_gallery(place, Corpus.open(made.uri), hits_schema().empty_table(), [], max_photographs=0)


@given(st.data(), st.integers(1, 5000), st.integers(1, 5000))
def test_windows_hold_their_box_and_stay_inside(data: st.DataObject, height: int, width: int) -> None:
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box_width, box_height = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
    left, top, window_width, window_height = window_around((x, y, box_width, box_height), (height, width))
    slack = 1e-6 * max(width, height)
    assert left >= 0
    assert top >= 0
    assert left + window_width <= width + slack
    assert top + window_height <= height + slack
    assert left <= x + slack
    assert top <= y + slack
    assert left + window_width >= x + box_width - slack
    assert top + window_height >= y + box_height - slack
    shape = TILE_WH[0] / TILE_WH[1]
    if max(box_width, box_height * shape) <= min(width, height * shape):
        assert window_width / window_height == pytest.approx(shape)
