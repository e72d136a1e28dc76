"""What a gallery shows, format aside: facts, a row of cards a query, and photographs with all their masks."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from fastsam_batch.corpus.filters import of_image
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.search.pictures import ReadPixels, hit_picture, jpeg_bytes, photograph_picture, read_photograph
from fastsam_batch.words import counted

_WIDEST, _TALLEST = 3.0, 0.6
_JPEG_QUALITY = 86


@dataclass(frozen=True)
class Drawn:
    """A picture as a JPEG file, since a gallery may hold thousands until it is written."""

    jpeg: bytes
    width: int
    height: int

    @classmethod
    def of(cls, picture: Image.Image) -> Drawn:
        """The picture, pressed."""
        return cls(jpeg_bytes(picture, _JPEG_QUALITY), *picture.size)

    def opened(self) -> Image.Image:
        """Its pixels again."""
        return Image.open(io.BytesIO(self.jpeg))


@dataclass(frozen=True)
class Card:
    """A picture with its words; without a `picture`, `problem` says why there is none."""

    title: str
    detail: str
    description: str
    picture: Drawn | None = None
    problem: str = ""
    similarity: float | None = None

    @property
    def shape(self) -> float:
        """Width a height of its place, which panoramas and towers are shown whole within."""
        shape = self.picture.width / self.picture.height if self.picture else 4 / 3
        return min(max(shape, _TALLEST), _WIDEST)


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
    min_calibrated: float | None = None,
    like: Collection[str] = (),
) -> Gallery:
    """Draw the hits (`find.hits_schema`) and the photographs; each photograph is read once, one at a time.

    `like` are those of `texts` that name a mask: they have no calibrated score.
    """
    found = Counter(hits["text"].to_pylist())
    rows = hits.filter(pc.field("rank") <= max_hits).to_pylist()
    images, total = _images_to_show(corpus, rows, max_photographs)
    hit_cards: dict[tuple[str, int], Card] = {}
    photographs: dict[int, Card] = {}
    # About as they lie in tars, which are read forward.
    for number, image in sorted(enumerate(images), key=lambda each: (each[1]["unit_id"], each[1]["image_id"])):
        of_image = [row for row in rows if row["image_id"] == image["image_id"]]
        pixels = _photograph_or_why_not(image, read)
        for row in of_image:
            hit_cards[row["text"], row["rank"]] = _hit_card(row, pixels)
        if number < max_photographs:
            photographs[number] = _photograph_card(image, _masks_of(corpus, image), pixels)
    queries = []
    for text in texts:
        cards = [hit_cards[row["text"], row["rank"]] for row in rows if row["text"] == text]
        note = _query_note(cards, found[text], min_score, None if text in like else min_calibrated)
        queries.append(QueryRow(text, note, cards))
    shown = f"{len(photographs)} of {counted(total, 'photograph')}, each with all of its masks"
    return Gallery(corpus.name, _facts(corpus), queries, [card for _, card in sorted(photographs.items())], shown)


def _facts(corpus: Corpus) -> list[tuple[str, str]]:
    images, failed, masks = map(corpus.count, ("images", "failed", "masks"))
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
    wanted = list(dict.fromkeys(row["image_id"] for row in sorted(rows, key=lambda row: row["rank"])))
    by_id = corpus.image_rows(wanted)
    images = [by_id[image_id] for image_id in wanted]
    if len(images) < limit:
        others = _ok_images(corpus, set(wanted))
        images += [image for image, _ in zip(others, range(limit - len(images)), strict=False)]
    return images, corpus.count("images") - corpus.count("failed")


def _ok_images(corpus: Corpus, without: set[str]) -> Iterator[dict[str, Any]]:
    # Unit by unit, so that the first few of a large corpus cost one file.
    for unit_id in corpus.receipts():
        of_unit = corpus.only([unit_id]).images(where=pc.field("status") == "ok")
        yield from (row for row in of_unit.to_pylist() if row["image_id"] not in without)


def _masks_of(corpus: Corpus, image: dict[str, Any]) -> list[dict[str, Any]]:
    unit, columns = corpus.only([image["unit_id"]]), ["mask_index", "bbox", "area", "rle"]
    masks: list[dict[str, Any]] = unit.masks(columns, of_image(image)).to_pylist()
    return masks


def _photograph_or_why_not(image: dict[str, Any], read: ReadPixels) -> NDArray[np.uint8] | str:
    try:
        return read_photograph(image, read)
    except (InputError, OutageError) as error:
        return f"{str(error)[0].upper()}{str(error)[1:]}."


def _hit_card(row: dict[str, Any], pixels: NDArray[np.uint8] | str) -> Card:
    area = counted(row["area"], "pixel")
    title, detail = row["image_id"], f"mask {row['mask_index']}, {area}"
    described = f"Match {row['rank']} for {row['text']!r}: mask {row['mask_index']} of {row['image_id']}"
    if isinstance(pixels, str):
        return Card(title, detail, described, problem=pixels, similarity=row["similarity"])
    return Card(title, detail, described, Drawn.of(hit_picture(pixels, row)), similarity=row["similarity"])


def _photograph_card(image: dict[str, Any], masks: list[dict[str, Any]], pixels: NDArray[np.uint8] | str) -> Card:
    title, detail = image["image_id"], f"{counted(len(masks), 'mask')}, {image['width']} x {image['height']}"
    described = f"{image['image_id']} with its {counted(len(masks), 'mask')} drawn over it"
    if isinstance(pixels, str):
        return Card(title, detail, described, problem=pixels)
    return Card(title, detail, described, Drawn.of(photograph_picture(pixels, masks)))


def _query_note(cards: list[Card], found: int, min_score: float | None, min_calibrated: float | None) -> str:
    scores = [f"{card.similarity:.3f}" for card in cards if card.similarity is not None]
    if scores:
        best = f"best {len(scores)} of {found:,} hits, " if len(scores) < found else ""
        return f"{best}cosine {' to '.join(dict.fromkeys([scores[0], scores[-1]]))}"
    if min_calibrated:
        return f"No mask convinces: none has a calibrated score of {min_calibrated:g} or more."
    return "No mask to compare with." if min_score is None else f"No mask scores above {min_score:g}."
