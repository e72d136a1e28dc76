"""Prompts on one image of a corpus: points, boxes and texts to a selection of its stored masks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import TYPE_CHECKING, Any

from fastsam_batch import storage
from fastsam_batch.corpus.filters import of_image
from fastsam_batch.errors import InputError
from fastsam_batch.masks.rle import Rle
from fastsam_batch.masks.runs import rle_of
from fastsam_batch.masks.select import Box, Point, select
from fastsam_batch.masks.smooth import smooth
from fastsam_batch.ranges import check_range, several
from fastsam_batch.search.background import Background
from fastsam_batch.search.find import find_masks
from fastsam_batch.search.texts import EncodeTexts

if TYPE_CHECKING:
    from fastsam_batch.search.image import CorpusImage


@dataclass(frozen=True)
class Prompts:
    """What to select: points (x, y) and boxes (x1, y1, x2, y2) in pixels of the image, and texts.

    `smallest`: a foreground point selects the smallest mask around it only. `top_k` and `min_score`: masks a
    text at most, and the least cosine. `smooth_radius`: the union opened and closed by a disc, in pixels.
    """

    foreground: Sequence[Point] = ()
    background: Sequence[Point] = ()
    boxes: Sequence[Box] = ()
    texts: str | Sequence[str] = ()
    smallest: bool = False
    top_k: int = 1
    min_score: float | None = None
    smooth_radius: int = 0

    def __post_init__(self) -> None:
        """NumPy's arrays and numbers become Python's, as a selection's JSON needs them; a text alone is one text."""
        for name in ("foreground", "background", "boxes"):
            object.__setattr__(self, name, _plain_prompts(name, getattr(self, name)))
        object.__setattr__(self, "texts", several(self.texts))


def _plain_prompts(name: str, prompts: Any) -> tuple[tuple[Any, ...], ...]:
    """Points or boxes as tuples of Python's numbers. Raises InputError for what is none."""
    form = "(x1, y1, x2, y2)" if name == "boxes" else "(x, y)"
    try:
        plain = tuple(tuple(map(_plain, numbers)) for numbers in prompts)
    except TypeError:  # one alone, not in a list
        plain = ((),)
    for numbers in plain:
        if len(numbers) != len(form.split()) or not all(isinstance(number, Real) for number in numbers):
            raise InputError(f"{name} {prompts!r:.100}: give a list of {form}, in pixels of the image")
    return plain


def _plain(number: Any) -> Any:
    return number.item() if hasattr(number, "item") else number


@dataclass(frozen=True)
class BoxAnswer:
    """The mask that answers a box best, None where no mask has a pixel in it."""

    box: Box
    mask_index: int | None
    iou: float


@dataclass(frozen=True)
class TextAnswer:
    """A mask that a text selects, with their cosine, and the calibrated score where there was a background."""

    text: str
    mask_index: int
    similarity: float
    calibrated: float | None = None


@dataclass(frozen=True)
class ImageSelection:
    """Masks of one image: `mask_indices` (ascending) were added to the union, `rle` is what is left of it.

    `image` is the image's row of the corpus, `prompts` what was asked, `area` the union's pixels.
    """

    image: dict[str, Any]
    prompts: Prompts
    mask_indices: list[int]
    rle: Rle = field(repr=False)  # kilobytes that say nothing to a reader
    area: int
    boxes: list[BoxAnswer]
    texts: list[TextAnswer] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The document that select_masks writes."""
        return {
            "image_id": self.image["image_id"],
            "size": list(self.rle.size),
            "mask_indices": self.mask_indices,
            "rle": self.rle.to_coco(),
            "boxes": [
                {"box": list(answer.box), "mask_index": answer.mask_index, "iou": answer.iou} for answer in self.boxes
            ],
        }


def select_masks(
    image: CorpusImage,
    prompts: Prompts,
    encode: EncodeTexts | None = None,
    text_background: Background | None = None,
) -> ImageSelection:
    """Apply prompts to an image's stored masks, by the rule of `masks.select.select`; texts choose masks.

    `encode`, and `text_background` as `background`, are as in `find_masks`; only texts need them. Raises InputError
    for a failed image, a point or box outside it, nothing that selects, a radius that smooths all away, or a mask that
    cannot be read.
    """
    if not (prompts.foreground or prompts.boxes or prompts.texts):
        raise InputError("there is nothing to select by; name a point, a box or a text")
    check_range("--smooth", prompts.smooth_radius, 0)
    size = image.size_hw
    texts = _by_text(image, prompts, encode, text_background)
    indices = image.masks["mask_index"].to_pylist()
    try:
        found = select(
            image.parsed_masks,
            foreground=prompts.foreground,
            background=prompts.background,
            boxes=prompts.boxes,
            chosen=[indices.index(answer.mask_index) for answer in texts],
            smallest=prompts.smallest,
        )
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"a mask of {image.image_id!r} in {storage.redact(image.corpus.uri)} is broken ({error}); "
            "verify_corpus names it"
        ) from error
    union = smooth(found.union, size, prompts.smooth_radius)
    if found.union.area and not union.area:
        raise InputError(
            f"--smooth {prompts.smooth_radius}: leaves nothing of the {found.union.area} pixels selected; "
            "give a smaller radius"
        )
    return ImageSelection(
        image.row,
        prompts,
        [indices[mask] for mask in found.masks],
        rle_of(union, size),
        union.area,
        [BoxAnswer(each.box, None if each.mask is None else indices[each.mask], each.iou) for each in found.boxes],
        texts,
    )


def parse_points(texts: Iterable[str], option: str) -> list[Point]:
    """Points of their texts `x,y`. Raises InputError for another form, naming the option."""
    return [(x, y) for x, y in (_numbers(text, 2, option, "x,y") for text in texts)]


def parse_boxes(texts: Iterable[str], option: str) -> list[Box]:
    """Boxes of their texts `x1,y1,x2,y2`. Raises InputError for another form, naming the option."""
    return [(a, b, c, d) for a, b, c, d in (_numbers(text, 4, option, "x1,y1,x2,y2") for text in texts)]


def _numbers(text: str, count: int, option: str, form: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != count or not all(map(math.isfinite, values)):
        raise InputError(f"{option} {text}: write {form}, {count} numbers in pixels of the image")
    return [int(value) if value.is_integer() else value for value in values]


def _by_text(
    image: CorpusImage, prompts: Prompts, encode: EncodeTexts | None, background: Background | None
) -> list[TextAnswer]:
    if not prompts.texts:
        return []
    options: dict[str, Any] = {"top_k": prompts.top_k, "min_score": prompts.min_score}
    options |= {"encode": encode or image.corpus.text_encoder(), "background": background}
    hits = find_masks(image.corpus.only([image.row["unit_id"]]), prompts.texts, where=of_image(image.row), **options)
    names = ("text", "mask_index", "similarity", "calibrated")
    columns = zip(*(hits[name].to_pylist() for name in names), strict=True)
    return [TextAnswer(*answer) for answer in columns]
