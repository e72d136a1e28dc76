"""One unit of a corpus as it is stored: masks that are embedded anew instead of being found again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.rows import ImageResult, MaskColumns
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.masks.rle import Rle, tight_box
from fastsam_batch.masks.runs import runs_of
from fastsam_batch.outage import retry
from fastsam_batch.sources.base import EncodedImage
from fastsam_batch.storage import redact


class StoredUnit:
    """A unit's images and masks, read from a corpus."""

    together = 1  # image by image

    def __init__(self, corpus_uri: str, unit_id: str, record_unreachable: bool = False) -> None:
        """Read a committed unit, without its embeddings. With `record_unreachable` an image that its store does not
        give fails.

        Raises InputError where its files are missing or broken, OutageError where their store fails.
        """
        self._uri = redact(corpus_uri)
        unit = Corpus.open(corpus_uri).only([unit_id])
        rows = retry(unit.images).to_pylist()
        self._images: dict[str, dict[str, Any]] = {row["image_id"]: row for row in rows}
        self._record_unreachable = record_unreachable
        columns = ["image_id", "mask_index", "bbox", "area", "score", "stability", "rle"]
        self._masks = retry(partial(unit.masks, columns))

    def to_decode(self, images: Sequence[EncodedImage]) -> list[EncodedImage]:
        """The unit's own images, as they were fetched: one that was not is missing, one that is new is left out.

        Without the bytes of those that failed before: they stay as they were, and whether their store gives them does
        not matter. Raises OutageError where it does not give another one, unless that is to be recorded.
        """
        fetched = {image.image_id: image for image in images}
        # Where a shard breaks off, a row that the unit did not have says why.
        strangers = (image for name, image in fetched.items() if name not in self._images)
        why = next((image.error_message for image in strangers if image.error_message), None)
        found = []
        for name, row in self._images.items():
            gone = EncodedImage(name, row["uri"], None, "missing", why or f"{row['uri']} is no longer there")
            image = fetched.get(name, gone)
            failed = row["status"] == "failed"
            if image.error_kind == "unreachable" and not failed and not self._record_unreachable:
                raise OutageError(str(image.error_message))
            found.append(replace(image, data=None) if failed else image)
        return found

    def checked(self, result: ImageResult) -> ImageResult:
        """The image as it is now, or as failed: where it had failed before, or is not the one that was segmented."""
        row = self._images[result.image_id]
        if row["status"] == "failed":
            hw = (row["height"], row["width"]) if row["height"] else None
            failure = {"error_kind": row["error_kind"], "error_message": row["error_message"]}
            return ImageResult(result.image_id, result.uri, row["sha256"], hw, None, **failure)
        if result.error_kind is None and row["sha256"] != result.sha256:
            reason = "its bytes are not those that were segmented"
            return replace(result, image_hw=None, error_kind="changed", error_message=reason)
        return result

    def masks(self, image_id: str) -> MaskColumns:
        """An image's masks by their index, without embeddings.

        Raises InputError for one that is broken or has another box, of whatever writer: on a GPU its runs would be
        looked for outside its crop, a fault after which no call of the process succeeds.
        """
        rows: pa.Table = self._masks.filter(pc.field("image_id") == image_id).sort_by("mask_index")
        boxes = rows["bbox"].combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32).reshape(-1, 4)
        rles = [Rle.from_coco(rle) for rle in rows["rle"].to_pylist()]
        hw = self._images[image_id]["height"], self._images[image_id]["width"]
        for index, rle, box in zip(rows["mask_index"].to_pylist(), rles, boxes.tolist(), strict=True):
            if rle.size != hw or not _fits(rle, box):
                raise InputError(
                    f"{self._uri}: the mask {index} of {image_id} is broken, empty, or not what its box says; segment "
                    "the images anew into another --output"
                )
        return MaskColumns.found(
            scores=rows["score"].to_numpy().astype(np.float32),
            stability=rows["stability"].to_numpy().astype(np.float32),
            areas=rows["area"].to_numpy().astype(np.int64),
            bboxes_xywh=boxes,
            rles=rles,
        )


def _fits(rle: Rle, bbox_xywh: list[float]) -> bool:
    """Whether an RLE is one of a mask with a pixel, and the box its tight one."""
    try:
        runs = runs_of(rle)
    except ValueError:
        return False
    return len(runs) > 0 and tuple(bbox_xywh) == tight_box(runs.starts, runs.ends, rle.size[0])
