"""What reads bytes and texts of others, each with what it may end as. Anything else raises out of its check."""

from __future__ import annotations

import io
import random
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.dataset as ds
from fuzz.mutate import damaged, draw
from reference.rle import unpack_counts
from zoo.images import FORMATS, ORIENTATIONS
from zoo.tables import MANIFESTS, PARQUETS
from zoo.tars import TARS

from fastsam_batch.corpus.schema import masks_schema
from fastsam_batch.corpus.where import parse_where
from fastsam_batch.errors import InputError
from fastsam_batch.images import ImageError, decode_image
from fastsam_batch.masks.rle import Rle, decode_in_box, foreground_runs, pack_counts, tight_box
from fastsam_batch.sources import open_source
from fastsam_batch.sources.base import Planned
from fastsam_batch.sources.tarstream import BrokenTarError, stream_images

MAX_PIXELS = 1_000_000
KINDS = {"empty", "not_an_image", "unsupported", "truncated", "corrupt", "too_large"}
_SMALL = 200_000  # bytes of a seed; the zoo's bombs stay in the zoo

IMAGE_SEEDS = [case.data for case in [*FORMATS, *ORIENTATIONS] if len(case.data) < _SMALL]
TAR_SEEDS = [case.data for case in TARS if 0 < len(case.data) < _SMALL]
PARQUET_SEEDS = [case.data for case in PARQUETS if len(case.data) < _SMALL]
MANIFEST_SEEDS = [(Path(case.name).suffix, case.data) for case in MANIFESTS if len(case.data) < _SMALL]
WORDS = [
    *["and", "or", "not", "in", "between", "like", "is", "null", "(", ")", ",", "=", "==", "<>", "!=", "<=", ">"],
    *[
        "area",
        "score",
        "image_id",
        "bbox",
        "bbox.x",
        "bbox.height",
        "embedding",
        "rle",
        "unit_id",
        "nothing",
        "stability",
    ],
    *["'a%'", '"', "'", "''", "'\\'", "'é'", "1", "2.5", "1e400", ".", "1e3", ";", "\x00", "\\", "9" * 20, "0x10", "+"],
]
_TYPES = dict(zip(masks_schema(4).names, masks_schema(4).types, strict=True))


def expect(holds: object, what: str) -> None:
    """Raises AssertionError where it does not hold."""
    if not holds:
        raise AssertionError(what)


def check_image(data: bytes) -> None:
    """RGB of a bounded size, or an ImageError of a known kind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels = decode_image(data, MAX_PIXELS)
        except ImageError as error:
            expect(error.kind in KINDS and error.message, f"{error.kind}: {error.message}")
            return
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
    assert 0 < pixels.shape[0] * pixels.shape[1] <= MAX_PIXELS


def check_rle(size: tuple[int, int], text: str) -> None:
    """Counts no longer than their text that add up to the size, as the slow way reads them, or a ValueError."""
    try:
        starts, ends = foreground_runs(Rle(size, text))
    except ValueError:
        return
    counts = unpack_counts(text)
    assert len(counts) <= len(text) and counts.sum() == size[0] * size[1]
    assert (starts <= ends).all() and (starts[1:] >= ends[:-1]).all()
    assert (starts >= 0).all() and (ends <= size[0] * size[1]).all()
    (again,) = pack_counts(counts, np.array([len(counts)]))
    assert unpack_counts(again).tolist() == counts.tolist()
    if (starts < ends).any():
        full = starts < ends
        x, y, width, height = tight_box(starts[full], ends[full], size[0])
        assert 0 <= x < x + width <= size[1] and 0 <= y < y + height <= size[0]
        if width * height < MAX_PIXELS:
            inside = decode_in_box(Rle(size, text), (x, y, width, height))
            assert int(inside.sum()) == int((ends - starts).sum())


def check_where(text: str) -> None:
    """An expression that binds to the columns, or an InputError in one line."""
    try:
        expression = parse_where(text, _TYPES)
    except InputError as error:
        expect("\n" not in str(error), str(error))
        return
    assert ds.dataset(masks_schema(4).empty_table()).to_table(filter=expression).num_rows == 0


def check_tar(data: bytes) -> None:
    """Images with names, up to the end or a BrokenTarError."""
    names = set()
    try:
        for image in stream_images(io.BytesIO(data)):
            assert image.name and image.name not in names
            names.add(image.name)
            if not image.unread and image.size < 10_000_000:
                assert len(image.load()) == image.size
    except BrokenTarError as error:
        expect(str(error), "a reason")


def check_source(name: str, data: bytes) -> None:
    """Units of images with ids, or an InputError in one line that names the file."""
    # Arrow calls broken files unreadable ones, which the sources try again after a while.
    with tempfile.TemporaryDirectory() as folder, mock.patch("time.sleep"):
        path = Path(folder, name)
        path.write_bytes(data)
        try:
            source = open_source(str(path))
            rows = list(source.plan(Planned(), 64, 1000))
        except InputError as error:
            expect(name in str(error) and "\n" not in str(error), str(error))
            return
        if path.suffix == ".parquet":  # a manifest's rows would be fetched from wherever they now point
            for row in rows:
                for unit in source.read(row, ()):
                    assert all(image.data is not None or image.error_kind for image in unit.images)


def images(generator: random.Random) -> None:
    """Damaged images of every format."""
    check_image(damaged(generator.choice(IMAGE_SEEDS), draw(generator), generator.choice(IMAGE_SEEDS)))


def tars(generator: random.Random) -> None:
    """Damaged shards."""
    check_tar(damaged(generator.choice(TAR_SEEDS), draw(generator), generator.choice(TAR_SEEDS)))


def parquets(generator: random.Random) -> None:
    """Damaged Parquet files."""
    check_source(
        "x.parquet", damaged(generator.choice(PARQUET_SEEDS), draw(generator), generator.choice(PARQUET_SEEDS))
    )


def manifests(generator: random.Random) -> None:
    """Damaged manifests."""
    suffix, data = generator.choice(MANIFEST_SEEDS)
    check_source(f"x{suffix}", damaged(data, draw(generator), generator.choice(MANIFEST_SEEDS)[1]))


def rles(generator: random.Random) -> None:
    """Run-length strings: packed ones, damaged, and any characters; sizes that fit, and any."""
    size = (generator.randrange(1, 60), generator.randrange(1, 60))
    cuts = sorted(generator.randrange(size[0] * size[1] + 1) for _ in range(generator.randrange(9)))
    counts = np.diff([0, *cuts, size[0] * size[1]])
    (text,) = pack_counts(counts.astype(np.int64), np.array([len(counts)]))
    if generator.random() < 0.7:
        text = damaged(text.encode(), draw(generator), text.encode()).decode("latin-1")
    if generator.random() < 0.1:
        text = "".join(chr(generator.choice((48, 111, 80, 79, 300, 0x1F600))) for _ in range(generator.randrange(30)))
    if generator.random() < 0.2:
        size = (generator.choice((0, -1, 1, 2**31, 2**62)), generator.choice((0, -1, 1, 2**31, 2**62)))
    check_rle(size, text)


def wheres(generator: random.Random) -> None:
    """Filters: words in any order, and damaged ones."""
    text = " ".join(generator.choice(WORDS) for _ in range(generator.randrange(1, 16)))
    if generator.random() < 0.5:
        seed = "area > 5000 and not (score between 0.1 and 0.9 or image_id in ('a', \"b\")) and bbox.x is not null"
        text = damaged(seed.encode(), draw(generator), text.encode()).decode("utf-8", "surrogateescape")
    check_where(text)


TARGETS: dict[str, Callable[[random.Random], None]] = {
    "images": images,
    "tars": tars,
    "parquets": parquets,
    "manifests": manifests,
    "rles": rles,
    "wheres": wheres,
}
