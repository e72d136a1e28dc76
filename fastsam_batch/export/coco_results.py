"""COCO results: the list of scored masks that `COCO.loadRes` takes, with the ids of a ground truth.

`bbox` is left out: with it, pycocotools would take a mask's area from its box.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastsam_batch import storage
from fastsam_batch.errors import InputError
from fastsam_batch.export.ids import image_number
from fastsam_batch.export.images import BEST_RANK, ExportImage, RankBy


@dataclass(frozen=True)
class GroundTruth:
    """The ids of a COCO file: of images by file_name, and by its last part where that is unique; of categories."""

    images: dict[str, int]
    categories: dict[str, int]

    def image_id(self, image_id: str) -> int | None:
        """The number of an image by its image_id or the last part of it."""
        found = self.images.get(image_id)
        return self.images.get(image_id.rpartition("/")[2]) if found is None else found


def read_ground_truth(uri: str) -> GroundTruth:
    """The ids of a COCO file. Raises InputError for a file that is missing or none."""
    fs, path = storage.filesystem(uri)
    try:
        document = json.loads(fs.cat_file(path))
        named = {str(image["file_name"]): int(image["id"]) for image in document["images"]}
        categories = {str(each["name"]): int(each["id"]) for each in document.get("categories", [])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--ground-truth {storage.redact(uri)} is not a COCO file that can be read ({error})"
        ) from error
    lasts: dict[str, list[int]] = {}
    for name, number in named.items():
        lasts.setdefault(name.rpartition("/")[2], []).append(number)
    unique = {last: numbers[0] for last, numbers in lasts.items() if len(numbers) == 1}
    return GroundTruth(unique | named, categories)


def write_coco_results(
    uri: str,
    images: Iterable[ExportImage],
    categories: Sequence[str],
    ground_truth: GroundTruth | None = None,
    rank_by: RankBy = BEST_RANK,
) -> dict[str, int]:
    """Write COCO results to `uri`, as a stream; how many images the ground truth does not have.

    `score` is what `rank_by` says, since it is there to rank masks by.
    Without a `ground_truth` ids are those of the coco format. With one, categories take its ids by name; a
    single category that it lacks, as class-agnostic masks have, is 1. Raises InputError where it lacks one of
    several, or has none of the images.
    """
    numbers = _category_numbers(categories, ground_truth)
    seen = unknown = 0
    with storage.open_result(uri) as file:
        file.write(b"[")
        between = b"\n"
        for image in images:
            number = ground_truth.image_id(image.image_id) if ground_truth else image_number(image.image_id)
            seen += 1
            if number is None:
                unknown += 1
                continue
            for mask in image.masks:
                result: dict[str, Any] = {
                    "image_id": number,
                    "category_id": numbers[mask.label],
                    "segmentation": mask.rle.to_coco(),
                    "score": round(mask.worth(rank_by), 6),
                }
                file.write(between + json.dumps(result).encode())
                between = b",\n"
        if seen and seen == unknown:
            raise InputError("--ground-truth has none of the corpus's images by file_name; name that of this corpus")
        file.write(b"\n]\n")
    return {"images_not_in_ground_truth": unknown} if ground_truth else {}


def _category_numbers(categories: Sequence[str], ground_truth: GroundTruth | None) -> list[int]:
    if ground_truth is None or (len(categories) == 1 and categories[0] not in ground_truth.categories):
        return list(range(1, len(categories) + 1))
    for category in categories:
        if category not in ground_truth.categories:
            raise InputError(
                f"--ground-truth has no category {category!r}; it has {', '.join(sorted(ground_truth.categories))}"
            )
    return [ground_truth.categories[category] for category in categories]
