"""Run-length strings against pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from reference.rle import unpack_counts

from fastsam_batch.masks.rle import Rle, decode_in_box, foreground_runs, pack_counts, tight_box


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.random((height, width)) < draw(st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]))


def coco(mask):
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return Rle((rle["size"][0], rle["size"][1]), rle["counts"].decode())


@given(st.lists(masks(), max_size=5))
def test_pack_writes_the_strings_pycocotools_writes(many):
    counts = [unpack_counts(coco(mask).counts) for mask in many]
    flat = np.concatenate([*counts, np.zeros(0, np.int64)])
    packed = pack_counts(flat, np.array([len(c) for c in counts], np.int64))
    assert packed == [coco(mask).counts for mask in many]


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=30))
def test_pack_and_unpack_are_inverse(counts):
    array = np.array(counts, np.int64)
    (packed,) = pack_counts(array, np.array([len(counts)]))
    assert unpack_counts(packed).tolist() == counts
    assert runs_of_counts(packed, counts) == runs_by_hand(counts)


def runs_of_counts(text, counts):
    starts, ends = foreground_runs(Rle((sum(counts), 1), text))
    return starts.tolist(), ends.tolist()


def runs_by_hand(counts):
    ends = np.cumsum(counts)
    return (ends[1::2] - counts[1::2]).tolist(), ends[1::2].tolist()


# Characters of one group, of groups that others follow, and some that no count has.
@given(st.text(st.one_of(st.characters(min_codepoint=48, max_codepoint=111), st.sampled_from("012opno/p\x00é"))))
@example("o" * 6 + "0")
@example("o" * 7 + "0")
@example("1o")
def test_strings_are_read_as_one_character_at_a_time(text):
    try:
        counts = unpack_counts(text).tolist()
    except ValueError:
        with pytest.raises(ValueError, match="not a COCO run-length string"):
            foreground_runs(Rle((1, 1), text))
    else:
        assert runs_of_counts(text, counts) == runs_by_hand(counts)


@given(masks())
def test_runs_decode_and_box(mask):
    rle = coco(mask)
    starts, ends = foreground_runs(rle)
    assert int((ends - starts).sum()) == mask.sum()
    np.testing.assert_array_equal(decode_in_box(rle, (0, 0, mask.shape[1], mask.shape[0])), mask)
    if mask.any():
        assert list(tight_box(starts, ends, mask.shape[0])) == coco_mask.toBbox(rle.to_coco()).tolist()
    assert Rle.from_coco(rle.to_coco()) == rle


@given(masks(), st.data())
def test_decode_in_box_is_the_crop(mask, data):
    height, width = mask.shape
    x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    w, h = data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y))
    np.testing.assert_array_equal(decode_in_box(coco(mask), (x, y, w, h)), mask[y : y + h, x : x + w])


@pytest.mark.parametrize("text", ["", "P", "zzz", "\x00", "é", "o" * 9 + "0", "\n"])
def test_strings_that_are_not_counts_are_refused(text):
    with pytest.raises(ValueError, match="not a COCO run-length string"):
        foreground_runs(Rle((1, 1), text))


def test_counts_that_do_not_fill_the_image_are_refused():
    with pytest.raises(ValueError, match="add up"):
        foreground_runs(Rle((5, 5), pack_counts(np.array([3, 4]), np.array([2]))[0]))
