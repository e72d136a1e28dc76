"""Drawing: masks land where they are, at every scale, and colours tell neighbours apart."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import skimage.data
from pycocotools import mask as coco
from reference.colours import distinct_colours as colours_the_slow_way

from fastsam_batch.masks.draw import (
    PALETTE,
    BoxedMask,
    View,
    distinct_colours,
    draw_mask,
    paint_all,
    show,
    spotlight,
)
from fastsam_batch.masks.rle import Rle

PHOTOGRAPH = skimage.data.chelsea()
HEIGHT, WIDTH = PHOTOGRAPH.shape[:2]
WHOLE = View((0, 0, WIDTH, HEIGHT), (WIDTH, HEIGHT))


def boxed(mask: np.ndarray) -> BoxedMask:
    rle = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return BoxedMask(Rle(mask.shape, rle["counts"].decode()), coco.toBbox(rle).tolist())


def disc(y: float, x: float, radius: float, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.hypot(rows - y, columns - x) < radius


@pytest.mark.parametrize(
    ("window", "size"),
    [
        ((0, 0, WIDTH, HEIGHT), (WIDTH, HEIGHT)),
        ((0, 0, WIDTH, HEIGHT), (WIDTH // 3, HEIGHT // 3)),
        ((0, 0, WIDTH, HEIGHT), (WIDTH * 3, HEIGHT * 3)),
        ((100.5, 40.25, 200, 150), (640, 480)),
        ((100.5, 40.25, 200, 150), (100, 75)),
    ],
)
def test_a_mask_lands_where_it_is(window: tuple[float, float, float, float], size: tuple[int, int]) -> None:
    view = View(window, size)
    layer = draw_mask(boxed(disc(120, 200, 45)), view)
    drawn = np.zeros(size[::-1], np.float32)
    drawn[layer.place] = layer.fill
    scale_x, scale_y = view.scale_xy
    rows, columns = np.mgrid[: size[1], : size[0]]
    # Centres of shown pixels, in the image's pixels, whose centres lie half a pixel in.
    y = window[1] + (rows + 0.5) / scale_y - 0.5
    x = window[0] + (columns + 0.5) / scale_x - 0.5
    distance = np.hypot(y - 120, x - 200) - 45
    slack = 1 + 1 / scale_x
    assert drawn[distance < -slack].min() == 1
    assert drawn[distance > slack].max() == 0
    assert drawn.sum() == pytest.approx(np.pi * 45**2 * scale_x * scale_y, rel=0.03)

    line = np.zeros(size[::-1], np.float32)
    line[layer.place] = layer.line
    assert line[np.abs(distance) > slack + 2 / scale_x].max() == 0
    assert line[np.abs(distance) < 0.2 / scale_x].mean() > 0.8


def test_a_hole_stays_open() -> None:
    ring = disc(150, 200, 80) & ~disc(150, 200, 40)
    layer = draw_mask(boxed(ring), WHOLE)
    assert layer.fill[150 - layer.top, 200 - layer.left] == 0
    assert layer.line[150 - layer.top, 200 - layer.left] == 0


def test_no_line_along_the_border_of_the_image() -> None:
    half = np.zeros((HEIGHT, WIDTH), bool)
    half[:, : WIDTH // 2] = True
    layer = draw_mask(boxed(half), WHOLE)
    assert layer.line[:, : WIDTH // 2 - 3].max() == 0
    assert layer.line[HEIGHT // 2, WIDTH // 2 - 1] > 0.9
    everything = draw_mask(boxed(np.ones((HEIGHT, WIDTH), bool)), WHOLE)
    assert everything.line.max() == 0
    assert everything.fill.min() == 1


def test_out_of_sight_is_none() -> None:
    assert draw_mask(boxed(disc(50, 50, 20)), View((200, 150, 100, 100), (300, 300))) is None


@pytest.mark.parametrize("shape", [(1, 1), (2, 3000), (3000, 2), (1, 7)])
def test_thin_images(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 90, np.uint8)
    mask = boxed(np.ones(shape, bool))
    view = View((0, 0, shape[1], shape[0]), (max(shape[1] // 5, 1), max(shape[0] // 5, 1)))
    assert paint_all(image, [mask], view).shape == (*view.size_wh[::-1], 3)
    assert spotlight(image, mask, view, (255, 0, 0)).shape == (*view.size_wh[::-1], 3)


def test_spotlight_keeps_the_mask_and_dims_the_rest() -> None:
    mask = disc(120, 200, 60)
    lit = spotlight(PHOTOGRAPH, boxed(mask), WHOLE, (255, 45, 110))
    inside = disc(120, 200, 52)
    np.testing.assert_array_equal(lit[inside], PHOTOGRAPH[inside])
    outside = ~disc(120, 200, 68)
    assert lit[outside].mean() < 0.65 * PHOTOGRAPH[outside].mean()
    assert (lit == (255, 45, 110)).all(axis=2).sum() > 2 * np.pi * 60


def test_the_last_mask_over_a_pixel_gives_its_colour() -> None:
    large, small = disc(150, 200, 120), disc(150, 200, 40)
    masks = [boxed(large), boxed(small)]
    painted = paint_all(PHOTOGRAPH, masks, WHOLE)
    regions = disc(150, 200, 110) & ~disc(150, 200, 50), disc(150, 200, 30)
    for region, colour in zip(regions, distinct_colours(PHOTOGRAPH, masks, WHOLE), strict=True):
        np.testing.assert_allclose(painted[region], 0.6 * PHOTOGRAPH[region] + 0.4 * np.array(colour), atol=1)
    np.testing.assert_array_equal(painted[~disc(150, 200, 126)], PHOTOGRAPH[~disc(150, 200, 126)])


def test_no_masks_leave_the_photograph() -> None:
    np.testing.assert_array_equal(paint_all(PHOTOGRAPH, [], WHOLE), PHOTOGRAPH)
    assert distinct_colours(PHOTOGRAPH, [], WHOLE) == []


def test_neighbours_have_other_colours() -> None:
    cells = [(row, column) for row in range(6) for column in range(9)]
    masks = []
    for row, column in cells:
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[row * 50 : row * 50 + 50, column * 50 : column * 50 + 50] = True
        masks.append(boxed(mask))
    colours = dict(zip(cells, distinct_colours(PHOTOGRAPH, masks, WHOLE), strict=True))
    assert set(colours.values()) <= set(PALETTE)
    for row, column in cells:
        for neighbour in ((row + 1, column), (row, column + 1), (row + 1, column + 1), (row + 1, column - 1)):
            if neighbour in colours:
                assert colours[row, column] != colours[neighbour]


@pytest.mark.parametrize("seed", range(6))
def test_colours_are_those_of_comparing_every_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    many = [disc(*rng.uniform(0, (HEIGHT, WIDTH)), rng.gamma(1, 25)) for _ in range(120)]
    for index in range(0, len(many), 5):
        many[index] &= rng.random((HEIGHT, WIDTH)) < 0.7
    masks = [boxed(mask) for mask in many if mask.any()]
    for view in (WHOLE, View((30, 20, 300.5, 200), (900, 600)), View(WHOLE.window_xywh, (90, 60))):
        assert distinct_colours(PHOTOGRAPH, masks, view) == colours_the_slow_way(PHOTOGRAPH, masks, view)


def test_a_mask_smaller_than_a_cell_has_a_colour() -> None:
    assert len(distinct_colours(PHOTOGRAPH, [boxed(disc(100, 100, 1.5))], View(WHOLE.window_xywh, (100, 75)))) == 1


def test_show_is_the_window() -> None:
    np.testing.assert_array_equal(show(PHOTOGRAPH, WHOLE), PHOTOGRAPH)
    np.testing.assert_array_equal(show(PHOTOGRAPH, View((10, 20, 30, 40), (30, 40))), PHOTOGRAPH[20:60, 10:40])


def test_memory_does_not_grow_with_the_masks() -> None:
    shape = (2000, 3000)
    image = np.zeros((*shape, 3), np.uint8)
    mask = boxed(disc(1000, 1500, 900, shape))
    view = View((0, 0, 3000, 2000), (600, 400))
    peaks = []
    for count in (2, 30):
        tracemalloc.start()
        paint_all(image, [mask] * count, view)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 4_000_000  # 28 masks of 6 megapixels more


def test_memory_of_colours_does_not_grow_with_the_masks() -> None:
    mask = boxed(disc(150, 225, 40))
    view = View(WHOLE.window_xywh, (1200, 800))
    peaks = []
    for count in (2, 400):
        tracemalloc.start()
        distinct_colours(PHOTOGRAPH, [mask] * count, view)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000  # a bit a cell of each mask is 1.3 MB
