"""Which image of a ground truth each image of a corpus is, by the end of its path."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from fastsam_batch.errors import InputError
from fastsam_batch.export.images import ExportImage


def truth_name(row: Mapping[str, Any]) -> str:
    """The name of an image in a COCO file. LVIS names its images by an address only. Raises KeyError for none."""
    return str(row.get("file_name") or row["coco_url"])


def check_size(image: ExportImage, size_hw: tuple[int, int]) -> None:
    """Raise InputError where a labelled image (height, width) has another size than the corpus's."""
    if (image.height, image.width) != size_hw:
        raise InputError(
            f"{image.image_id} is {image.width} x {image.height} pixels in the corpus and {size_hw[1]} x {size_hw[0]} "
            "in the ground truth; both must be of the same photograph"
        )


def pair_names(image_ids: Iterable[str], names: Mapping[int, str]) -> dict[str, int]:
    """The number of each image that the ground truth has, by its image_id; `names` gives a number's file_name.

    An image is the labelled one whose path agrees with its own for the most folders from the end; where several
    agree as far, the one whose whole file_name ends the image_id. Where several images would be one labelled
    image, it is the one that agrees farthest. An image that lies in another folder than all of several that have
    its name is none of them. Raises InputError where an image may be two labelled ones or the reverse.
    """
    by_end: dict[str, list[int]] = defaultdict(list)
    for number, name in names.items():
        for end in path_ends(name):
            by_end[end].append(number)
    whole = {number: path_ends(name)[0] for number, name in names.items()}
    by_whole: dict[str, list[int]] = defaultdict(list)
    for number, name in whole.items():
        by_whole[name].append(number)
    claims: dict[int, list[tuple[tuple[bool, int], str]]] = defaultdict(list)
    for image_id in image_ids:
        ends = path_ends(image_id)
        end = next((each for each in ends if each in by_end), "")
        if not end:
            continue
        found = by_end[end] if len(by_end[end]) == 1 else by_whole[end]
        if len(found) == 1:
            agrees = whole[found[0]] == end or ends[0] == end, end.count("/")
            claims[found[0]].append((agrees, image_id))
        elif found or ends[0] == end:
            first, second, *_ = found or by_end[end]
            raise InputError(
                f"--ground-truth: {image_id} of the corpus may be {names[first]} (id {first}) or {names[second]} "
                f"(id {second}); name files with their folders in both"
            )
    return dict(_chosen(found, names[number], number) for number, found in claims.items())


def _chosen(claims: list[tuple[tuple[bool, int], str]], name: str, number: int) -> tuple[str, int]:
    best = max(agrees for agrees, _ in claims)
    of_best = [image_id for agrees, image_id in claims if agrees == best]
    if len(of_best) > 1:
        raise InputError(
            f"--ground-truth: {name} (id {number}) may be {of_best[0]} or {of_best[1]} of the corpus; "
            "name files with their folders in both"
        )
    return of_best[0], number


def path_ends(path: str) -> list[str]:
    """A path and what is left of it without its first folders, down to the file's name."""
    parts = [part for part in path.replace("#", "/").split("/") if part not in ("", ".")]
    return ["/".join(parts[first:]) for first in range(len(parts))] or [path]
