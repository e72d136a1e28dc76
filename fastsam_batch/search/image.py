"""One image of a corpus: its row, its masks, and prompts on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastsam_batch import storage
from fastsam_batch.errors import InputError
from fastsam_batch.masks.select import ImageMasks
from fastsam_batch.search.pictures import photograph_picture, read_photograph
from fastsam_batch.search.prompts import ImageSelection, Prompts, select_masks
from fastsam_batch.search.selection import selection_picture
from fastsam_batch.search.texts import EncodeTexts
from fastsam_batch.words import counted

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from fastsam_batch.corpus.read import Corpus


@dataclass(frozen=True, eq=False)
class CorpusImage:
    """An image as a corpus has it: `row` of images (schemas/images.v1.json), and `masks`, its rows of masks
    ordered by mask_index (schemas/masks.v1.json).

    Prompts answer from the stored masks; only a text loads a model. Coordinates are pixels of the image after
    its EXIF orientation, x to the right and y down from its upper left corner.
    """

    corpus: Corpus = field(repr=False)
    row: dict[str, Any]
    masks: pa.Table = field(repr=False)

    @property
    def image_id(self) -> str:
        """Its key in the corpus."""
        image_id: str = self.row["image_id"]
        return image_id

    @property
    def size_hw(self) -> tuple[int, int]:
        """(height, width) in pixels. Raises InputError for an image that failed: it has none."""
        if self.row["status"] != "ok":
            reason = self.row["error_kind"]
            raise InputError(f"the image {self.image_id!r} has no masks, for it failed ({reason}); choose another")
        return self.row["height"], self.row["width"]

    @cached_property
    def parsed_masks(self) -> ImageMasks:
        """The masks as `masks.select` takes them, a mask's place being its row of `masks`; they are parsed as
        they are needed, and once. Raises InputError for an image that failed.
        """
        boxes = np.asarray(self.masks["bbox"].to_pylist(), np.float32).reshape(-1, 4)
        counts = pc.struct_field(self.masks["rle"], "counts").to_pylist()
        return ImageMasks(self.size_hw, counts, np.asarray(self.masks["area"].to_pylist(), np.int64), boxes)

    def point(self, x: float, y: float, *, smallest: bool = False) -> ImageSelection:
        """Every mask around a point, or the smallest of them. Raises InputError outside the image."""
        return self.select(foreground=[(x, y)], smallest=smallest)

    def box(self, x1: float, y1: float, x2: float, y2: float) -> ImageSelection:
        """The mask that overlaps a box best. Raises InputError where the box covers no pixel of the image."""
        return self.select(boxes=[(x1, y1, x2, y2)])

    def text(
        self, text: str, *, top_k: int = 1, min_score: float | None = None, encode: EncodeTexts | None = None
    ) -> ImageSelection:
        """The `top_k` masks of this image that look most like a text, their cosine at least `min_score`."""
        return self.select(encode=encode, texts=[text], top_k=top_k, min_score=min_score)

    def select(self, *, encode: EncodeTexts | None = None, **prompts: Any) -> ImageSelection:
        """Several prompts as one selection: the fields of `search.prompts.Prompts`, such as `foreground`,
        `background` and `boxes`. Raises InputError as `search.prompts.select_masks`.
        """
        return select_masks(self, Prompts(**prompts), encode)

    def pixels(self) -> NDArray[np.uint8]:
        """The photograph, read anew from its uri, uint8 RGB [H, W, 3]. Raises InputError where it is gone,
        cannot be read, or has changed its size since it was segmented.
        """
        return read_photograph(self.row, self.corpus.photographs.pixels)

    def draw(self, selection: ImageSelection | None = None) -> Image:
        """The photograph with all its masks over it and their numbers, or with a selection lit and its prompts marked.

        A notebook shows it as it is. Raises InputError as `pixels`.
        """
        if selection is not None:
            return selection_picture(selection, self.corpus.photographs.pixels)
        rows = self.masks.select(["mask_index", "bbox", "area", "rle"]).to_pylist()
        return photograph_picture(self.pixels(), rows)

    def __str__(self) -> str:
        return f"{self.image_id} of {storage.redact(self.corpus.uri)}, {counted(self.masks.num_rows, 'mask')}"
