"""Numbers on masks: where the mask itself is seen, whole, or not at all."""

from __future__ import annotations

import numpy as np
import skimage.data
from masks.test_draw import HEIGHT, WHOLE, WIDTH, boxed, disc

from fastsam_batch.masks.draw import paint_all
from fastsam_batch.masks.labels import write_numbers
from fastsam_batch.search.pictures import photograph_picture

PHOTOGRAPH = skimage.data.chelsea()


def written(masks: list[np.ndarray], numbers: list[int]) -> np.ndarray:
    """Pixels that the numbers change, bool [h, w]."""
    painted = paint_all(PHOTOGRAPH, [boxed(mask) for mask in masks], WHOLE)
    before = painted.copy()
    found = write_numbers(painted, [boxed(mask) for mask in masks], numbers, WHOLE)
    np.testing.assert_array_equal(painted, before)
    return (found != painted).any(axis=2)


def test_a_number_lies_in_what_is_seen_of_its_mask() -> None:
    ring = disc(150, 225, 140) & ~disc(150, 225, 90)
    masks = [disc(150, 225, 140), disc(150, 225, 90), disc(150, 225, 30), disc(15, 15, 14)]
    found = written(masks, [0, 1, 2, 3])
    for seen in (ring, masks[1] & ~masks[2], masks[2], masks[3]):
        assert (found & seen).sum() > 30
    assert not (found & ~np.any(masks, axis=0)).any()
    # One number in each: the parts of all four lie apart.
    for mask in masks[1:]:
        edge = mask ^ np.roll(mask, 1, axis=0) | mask ^ np.roll(mask, 1, axis=1)
        assert not (found & edge).any()


def test_a_mask_that_shows_too_little_has_no_number() -> None:
    covered, small = disc(150, 200, 60), disc(60, 60, 4)
    line = np.zeros((HEIGHT, WIDTH), bool)
    line[250:254, 10:400] = True
    found = written([covered, disc(150, 200, 59), small, line], [0, 1, 2, 3])
    alone = written([disc(150, 200, 59)], [1])
    np.testing.assert_array_equal(found, alone)


def test_a_photograph_s_masks_have_their_own_numbers() -> None:
    masks = {111: disc(60, 60, 40), 5: disc(200, 300, 80)}  # by area they go the other way
    rows = []
    for number, mask in masks.items():
        rle, box = boxed(mask)
        counts = {"size": list(rle.size), "counts": rle.counts}
        rows.append({"mask_index": number, "bbox": box, "area": int(mask.sum()), "rle": counts})
    picture = np.asarray(photograph_picture(PHOTOGRAPH, rows))[::2, ::2]
    light = (picture > 235).all(axis=2)
    wide, narrow = (np.ptp(np.nonzero(light & mask)[1]) for mask in masks.values())
    assert wide > 2 * narrow > 0
