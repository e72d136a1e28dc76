"""What a gallery shows, format aside: facts, a row of cards a query, and photographs with all their masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.errors import InputError
from fastsam_batch.images import ImageError
from fastsam_batch.masks.draw import RGB, BoxedMask, View, paint_all, spotlight
from fastsam_batch.masks.rle import Rle
from fastsam_batch.storage import redact

ReadPixels = Callable[[str], NDArray[np.uint8]]

TILE_WH = (512, 384)
PHOTOGRAPH_SIDE = 1200
ACCENT: RGB = (255, 45, 110)
# The tile shows this much more than the mask's box on each side, and never less than this share of the image.
_CONTEXT = 0.35
_LEAST_SHARE = 0.22


@dataclass(frozen=True)
class Card:
    """A picture with its words; without a `picture`, `problem` says why there is none."""

    title: str
    detail: str
    description: str
    picture: Image.Image | None = None
    problem: str = ""
    similarity: float | None = None


@dataclass
class QueryRow:
    """A query's best masks; `note` says what they are, or why there are none."""

    text: str
    note: str
    cards: list[Card] = field(default_factory=list)


@dataclass
class Gallery:
    """All that is shown, in order."""

    title: str
    facts: list[tuple[str, str]]
    queries: list[QueryRow]
    photographs: list[Card]
    note: str


def make_gallery(
    corpus: Corpus,
    hits: pa.Table,
    texts: Sequence[str],
    min_score: float | None,
    max_hits: int,
    max_photographs: int,
    read: ReadPixels,
) -> Gallery:
    """Draw the hits (`find.hits_schema`) and the photographs; each photograph is read once, one at a time."""
    found = Counter(hits["text"].to_pylist())
    rows = hits.filter(pc.field("rank") <= max_hits).to_pylist()
    images, total = _images_to_show(corpus, rows, max_photographs)
    hit_cards: dict[tuple[str, int], Card] = {}
    photographs = []
    for number, image in enumerate(images):
        of_image = [row for row in rows if row["image_id"] == image["image_id"]]
        pixels = _read(image, read)
        for row in of_image:
            hit_cards[row["text"], row["rank"]] = _hit_card(row, pixels)
        if number < max_photographs:
            photographs.append(_photograph_card(image, _masks_of(corpus, image), pixels))
    queries = []
    for text in texts:
        cards = [hit_cards[row["text"], row["rank"]] for row in rows if row["text"] == text]
        queries.append(QueryRow(text, _query_note(cards, found[text], min_score), cards))
    shown = f"{len(photographs)} of {_count(total, 'photograph')}, each with all of its masks"
    title = redact(corpus.uri).rstrip("/").rpartition("/")[2] or "corpus"
    return Gallery(title, _facts(corpus), queries, photographs, shown)


def _facts(corpus: Corpus) -> list[tuple[str, str]]:
    receipts = corpus.receipts().values()
    images = sum(receipt["images"] for receipt in receipts)
    failed = sum(receipt["failed"] for receipt in receipts)
    masks = sum(receipt["masks"] for receipt in receipts)
    models = corpus.info.get("models", {})
    facts = [("Photographs", f"{images - failed:,}"), ("Masks", f"{masks:,}")]
    if failed:
        facts.append(("Failed images", f"{failed:,}"))
    if images > failed:
        facts.append(("Masks per photograph", f"{masks / (images - failed):.1f}"))
    roles = [role for role in ("segmenter", "embedder") if models.get(role)]
    facts += [(role.capitalize(), str(models[role]["name"])) for role in roles]
    return [*facts, ("Input", str(corpus.info.get("input", "")))]


def _images_to_show(corpus: Corpus, rows: list[dict[str, Any]], limit: int) -> tuple[list[dict[str, Any]], int]:
    """Images with a hit, the best ranks first, then others up to `limit`; and how many there are in all."""
    receipts = corpus.receipts().values()
    total = sum(receipt["images"] - receipt["failed"] for receipt in receipts)
    wanted = list(dict.fromkeys(row["image_id"] for row in sorted(rows, key=lambda row: row["rank"])))
    of_hits = corpus.images(where=pc.field("image_id").isin(pa.array(wanted, pa.string()))).to_pylist()
    by_id = {row["image_id"]: row for row in of_hits}
    images = [by_id[image_id] for image_id in wanted]
    if len(images) < limit:
        others = _ok_images(corpus, set(wanted))
        images += [image for image, _ in zip(others, range(limit - len(images)), strict=False)]
    return images, total


def _ok_images(corpus: Corpus, without: set[str]) -> Iterator[dict[str, Any]]:
    # Unit by unit, so that the first few of a large corpus cost one file.
    for unit_id in corpus.receipts():
        of_unit = (pc.field("unit_id") == unit_id) & (pc.field("status") == "ok")
        yield from (row for row in corpus.images(where=of_unit).to_pylist() if row["image_id"] not in without)


def _masks_of(corpus: Corpus, image: dict[str, Any]) -> list[dict[str, Any]]:
    where = (pc.field("unit_id") == image["unit_id"]) & (pc.field("image_id") == image["image_id"])
    masks: list[dict[str, Any]] = corpus.masks(["bbox", "area", "rle"], where).to_pylist()
    return sorted(masks, key=lambda mask: -mask["area"])


def _read(image: dict[str, Any], read: ReadPixels) -> NDArray[np.uint8] | str:
    """The photograph, or in words why it cannot be shown."""
    try:
        pixels = read(image["uri"])
    except FileNotFoundError:
        return "The photograph is no longer where it was."
    except (OSError, InputError, ImageError) as error:
        return f"The photograph cannot be read: {error}"
    height, width = pixels.shape[:2]
    if (height, width) != (image["height"], image["width"]):
        was = f"{image['width']} x {image['height']}"
        return f"The photograph has changed: it is {width} x {height} pixels now and was {was}."
    return pixels


def _hit_card(row: dict[str, Any], pixels: NDArray[np.uint8] | str) -> Card:
    area = _count(row["area"], "pixel")
    title, detail = row["image_id"], f"mask {row['mask_index']}, {area}"
    described = f"Match {row['rank']} for {row['text']!r}: mask {row['mask_index']} of {row['image_id']}"
    if isinstance(pixels, str):
        return Card(title, detail, described, problem=pixels, similarity=row["similarity"])
    window = window_around(row["bbox"], pixels.shape[:2])
    scale = min(TILE_WH[0] / window[2], TILE_WH[1] / window[3])
    size = max(round(window[2] * scale), 1), max(round(window[3] * scale), 1)
    picture = Image.fromarray(spotlight(pixels, _boxed(row), View(window, size), ACCENT))
    return Card(title, detail, described, _on_tile(picture), similarity=row["similarity"])


def _photograph_card(image: dict[str, Any], masks: list[dict[str, Any]], pixels: NDArray[np.uint8] | str) -> Card:
    title, detail = image["image_id"], f"{_count(len(masks), 'mask')}, {image['width']} x {image['height']}"
    described = f"{image['image_id']} with its {_count(len(masks), 'mask')} drawn over it"
    if isinstance(pixels, str):
        return Card(title, detail, described, problem=pixels)
    height, width = pixels.shape[:2]
    scale = min(PHOTOGRAPH_SIDE / max(height, width), 2.0)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    view = View((0, 0, width, height), size)
    painted = paint_all(pixels, [_boxed(mask) for mask in masks], view)
    return Card(title, detail, described, Image.fromarray(painted))


def window_around(bbox_xywh: Sequence[float], image_hw: tuple[int, int]) -> tuple[float, float, float, float]:
    """Window (x, y, width, height) around a box, with context, inside the image; both in its pixels.

    It has the tile's shape, unless the box fits into no such window of the image.
    """
    height, width = image_hw
    x, y, box_width, box_height = bbox_xywh
    shape = TILE_WH[0] / TILE_WH[1]
    largest = min(width, height * shape)
    wide = max(box_width, box_height * shape, _LEAST_SHARE * largest) * (1 + 2 * _CONTEXT)
    if max(box_width, box_height * shape) <= largest:
        wide = min(wide, largest)
    window_width, window_height = min(wide, width), min(wide / shape, height)
    left = min(max(x + box_width / 2 - window_width / 2, 0), width - window_width)
    top = min(max(y + box_height / 2 - window_height / 2, 0), height - window_height)
    return left, top, window_width, window_height


def _on_tile(picture: Image.Image) -> Image.Image:
    """The picture on a tile; where it is narrower, a blurred copy fills the rest."""
    if picture.size == TILE_WH:
        return picture
    tile = ImageOps.fit(picture, TILE_WH).filter(ImageFilter.GaussianBlur(28)).point(lambda value: value * 0.6)
    tile.paste(picture, ((TILE_WH[0] - picture.width) // 2, (TILE_WH[1] - picture.height) // 2))
    return tile


def _boxed(row: dict[str, Any]) -> BoxedMask:
    height, width = row["rle"]["size"]
    return BoxedMask(Rle((height, width), row["rle"]["counts"]), row["bbox"])


def _query_note(cards: list[Card], found: int, min_score: float | None) -> str:
    scores = [f"{card.similarity:.3f}" for card in cards if card.similarity is not None]
    if scores:
        best = f"best {len(scores)} of {found:,} hits, " if len(scores) < found else ""
        return f"{best}cosine {' to '.join(dict.fromkeys([scores[0], scores[-1]]))}"
    return "No mask to compare with." if min_score is None else f"No mask scores above {min_score:g}."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
