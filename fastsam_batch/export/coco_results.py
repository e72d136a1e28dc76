"""COCO results: the list of scored masks that `COCO.loadRes` takes, with the ids of a ground truth.

`bbox` is left out: with it, pycocotools would take a mask's area from its box.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastsam_batch import storage
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.export.ids import image_number
from fastsam_batch.export.images import AGNOSTIC, ExportImage, RankBy
from fastsam_batch.export.pairing import check_size, pair_names, truth_name


@dataclass(frozen=True)
class GroundTruth:
    """The ids of a COCO file, as they stand there: of those images of a corpus that it has, by their image_id; of
    categories by name. `sizes_hw` are those of images by id, as far as it tells them.
    """

    images: dict[str, int]
    categories: dict[str, int]
    sizes_hw: dict[int, tuple[int, int]] = field(default_factory=dict)


def read_ground_truth(uri: storage.Uri, image_ids: Iterable[str]) -> GroundTruth:
    """The ids of a COCO file for images of a corpus (`pair_names`). Raises InputError for a file that is none."""
    fs, path = storage.filesystem(uri)
    try:
        document = json.loads(storage.read_whole(fs, path))
        images = {image["id"]: image for image in document["images"]}
        names = {number: truth_name(image) for number, image in images.items()}
        sizes_hw = {
            number: (int(image["height"]), int(image["width"]))
            for number, image in images.items()
            if image.get("height") and image.get("width")
        }
        categories = {str(each["name"]): each["id"] for each in document.get("categories", [])}
    except OutageError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--ground-truth {storage.redact(uri)} is not a COCO file that can be read ({error})"
        ) from error
    return GroundTruth(pair_names(image_ids, names), categories, sizes_hw)


def write_coco_results(
    uri: storage.Uri,
    images: Iterable[ExportImage],
    categories: Sequence[str],
    ground_truth: GroundTruth | None,
    rank_by: RankBy,
) -> tuple[int, Counter[int]]:
    """Write COCO results to `uri`, as a stream; how many images the ground truth does not have, and their masks by
    label, which are not written.

    `score` is what `rank_by` says, since it is there to rank masks by.
    Without a `ground_truth` ids are those of the coco format. With one, categories take its ids by name; the
    category of masks without classes, where it has none of that name, is its first: COCO's own evaluation leaves out
    ids that it does not know, even where it does not compare them. Raises InputError where it lacks a class, has none
    of the images, or has one of another size, whose masks none of its own can overlap.
    """
    numbers = _category_numbers(categories, ground_truth)
    seen = unknown = 0
    unwritten: Counter[int] = Counter()
    with storage.open_result(uri) as file:
        file.write(b"[")
        between = b"\n"
        for image in images:
            number = ground_truth.images.get(image.image_id) if ground_truth else image_number(image.image_id)
            seen += 1
            if number is None:
                unknown += 1
                unwritten.update(mask.label for mask in image.masks)
                continue
            if ground_truth and number in ground_truth.sizes_hw:
                check_size(image, ground_truth.sizes_hw[number])
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
    return unknown, unwritten


def _category_numbers(categories: Sequence[str], ground_truth: GroundTruth | None) -> list[int]:
    if ground_truth is None:
        return list(range(1, len(categories) + 1))
    if list(categories) == [AGNOSTIC] and AGNOSTIC not in ground_truth.categories:
        return [min(ground_truth.categories.values(), default=1)]
    for category in categories:
        if category not in ground_truth.categories:
            raise InputError(
                f"--ground-truth has no category {category!r}; it has {', '.join(sorted(ground_truth.categories))}"
            )
    return [ground_truth.categories[category] for category in categories]
