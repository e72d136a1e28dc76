"""Pages of a column chunk, read past what zstd puts between the bytes it keeps, against zstd itself."""

from __future__ import annotations

from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastsam_batch.corpus import chunks
from fastsam_batch.corpus.chunks import Space, open_chunk
from fastsam_batch.corpus.frames import BLOCK, LONGEST_HEAD, block_headers, frame_of

BEFORE, AFTER = b"before", b"and after"


def content(size: int, repeating: int, seed: int) -> bytes:
    """So many bytes, the first ones repeating as levels do, the others at random."""
    return b"\x03\x00\x07" * (repeating // 3) + np.random.default_rng(seed).bytes(size - repeating // 3 * 3)


def packed(data: bytes, level: int) -> bytes:
    return pa.Codec("zstd", level).compress(data, asbytes=True)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chunks") / "chunk"


def page(file: Path, frame: bytes, size: int, space: Space) -> bytes:
    file.write_bytes(BEFORE + frame + AFTER)
    with open_chunk(fsspec.filesystem("file"), str(file), len(BEFORE), len(frame), "ZSTD", space) as chunk:
        assert bytes(chunk.read(0, 4)) == frame[:4]
        assert bytes(chunk.read(len(frame) - 1, len(frame) + 9)) == frame[-1:]  # no more than the chunk has
        page = chunk.page(0, len(frame), size)
        found = b"".join(map(bytes, page.pieces()))
        for begin in (0, BLOCK - 9, BLOCK, 2 * BLOCK - 1, len(found) - 5, len(found)):
            for end in (begin, begin + 7, begin + BLOCK + 1):
                assert page.some(max(begin, 0), end) == found[max(begin, 0) : end]
        return found


@given(
    size=st.sampled_from([0, 1, 3000, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 77, 33 * BLOCK, 35 * BLOCK + 1]),
    repeating=st.sampled_from([0, 300, 30_000, BLOCK + 600]),
    level=st.sampled_from([-5, -1, 1, 3]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_a_page_is_what_was_packed(file: Path, size: int, repeating: int, level: int, seed: int) -> None:
    data = content(max(size, repeating), repeating, seed)
    space = Space()
    for _ in range(2):  # the second time where the first one lay
        assert page(file, packed(data, level), len(data), space) == data


def test_bytes_at_random_are_not_unpacked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    unpacked = chunks._unpacked

    def noted(frame: memoryview, size: int, codec: pa.Codec) -> memoryview:
        sizes.append(size)
        return unpacked(frame, size, codec)

    monkeypatch.setattr(chunks, "_unpacked", noted)
    data = content(4 * BLOCK + 1000, 30_000, 0)
    assert page(file, packed(data, -1), len(data), Space()) == data
    assert set(sizes) == {BLOCK}  # the first block, with what repeats
    monkeypatch.delattr("os.preadv")  # as on Windows
    sizes.clear()
    assert page(file, packed(data, -1), len(data), Space()) == data
    assert sizes == [len(data)]


@given(place=st.floats(0, 1), value=st.integers(0, 255), head=st.booleans())
@settings(max_examples=200, deadline=None)
def test_a_damaged_page_is_told_or_zstd_reads_it_so(file: Path, place: float, value: int, head: bool) -> None:
    data = content(2 * BLOCK + 500, 3000, 0)
    frame = bytearray(packed(data, -1))
    layout = frame_of(bytes(frame[:LONGEST_HEAD]), len(frame), len(data))
    assert layout is not None and layout.sizes == (BLOCK, 500)
    # Most of a frame is content, of which zstd without a checksum tells no damage; what is around it counts.
    at = int(place * (LONGEST_HEAD - 1)) if head else layout.rest + int(place * 2) + (place > 0.5) * (BLOCK + 1)
    frame[at] = value
    try:
        truth = bytes(pa.Codec("zstd").decompress(bytes(frame), len(data)))
    except (OSError, pa.ArrowInvalid):
        truth = data  # or nothing
    try:
        assert page(file, bytes(frame), len(data), Space()) == truth
    except (OSError, pa.ArrowInvalid):
        assert truth == data


def test_a_frame_that_begins_like_others_and_goes_on_otherwise(file: Path) -> None:
    """Blocks that are kept as they are, and far behind them one that is packed."""
    kept = content(20 * BLOCK, 300, 0)
    data = kept + content(2 * BLOCK, 2 * BLOCK, 1)
    frame = packed(data, -1)
    # Of the length that it would have if all were kept, so that only the header of that block tells.
    longer = frame + bytes(len(packed(content(len(data), 300, 0), -1)) - len(frame))
    assert frame_of(longer[:LONGEST_HEAD], len(longer), len(data)) is not None
    with pytest.raises((OSError, pa.ArrowInvalid)):  # what follows is no frame
        page(file, longer, len(data), Space())
    skippable = b"\x50\x2a\x4d\x18" + (len(longer) - len(frame) - 8).to_bytes(4, "little")
    filled = (frame + skippable).ljust(len(longer), b"\0")
    assert page(file, filled, len(data), Space()) == data


def test_a_first_block_that_is_shorter_than_it_seems(file: Path) -> None:
    """A block of 100,000 bytes as they are, blocks of one byte repeated, and a frame that is passed over."""
    kept, repeated = content(100_000, 0, 0), [BLOCK, BLOCK - 100_000, BLOCK, BLOCK, 55]
    data = kept + b"\x07" * sum(repeated)
    head = b"\x28\xb5\x2f\xfd\xa0" + len(data).to_bytes(4, "little")
    first = (len(kept) << 3).to_bytes(3, "little") + kept
    rest = b"".join(
        (size << 3 | 2 | (place == len(repeated) - 1)).to_bytes(3, "little") + b"\x07"
        for place, size in enumerate(repeated)
    )
    frame = head + first + rest
    sizes = divmod(len(data) - BLOCK, BLOCK)
    length = len(head + first) + 3 * (sizes[0] + bool(sizes[1])) + len(data) - BLOCK
    skipped = length - len(frame) - 8
    frame += b"\x50\x2a\x4d\x18" + skipped.to_bytes(4, "little") + bytes(skipped)
    assert frame_of(frame[:LONGEST_HEAD], len(frame), len(data)) is not None
    assert page(file, frame, len(data), Space()) == data


def test_more_pages_than_are_to_be_held_are_unpacked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "_MOST_UNPACKED", 2500)
    data = [content(1000, 0, number) for number in range(4)]
    frames = [packed(each, 1) for each in data]
    chunk = chunks.BytesChunk(memoryview(b"".join(frames)), pa.Codec("zstd"))
    ends = np.cumsum([len(frame) for frame in frames]).tolist()
    pages = [chunk.page(end - len(frame), end, 1000) for frame, end in zip(frames, ends, strict=True)]
    for _ in range(2):
        assert [b"".join(map(bytes, each.pieces())) for each in pages] == data
        assert [each.some(990, 1010) for each in pages] == [each[990:] for each in data]
    assert [each._kept is not None for each in pages] == [True, True, False, False]


def test_headers_of_kept_blocks() -> None:
    first, second = (BLOCK << 3).to_bytes(3, "little"), 5 << 3
    assert block_headers((BLOCK, 5), last=True) == first + (second | 1).to_bytes(3, "little")
    assert block_headers((BLOCK, 5), last=False) == first + second.to_bytes(3, "little")
