"""Images' bytes for one who asks for many of one shard: it is read on, not from its front each time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pyarrow as pa

from fastsam_batch.sources.locate import holds_rows, read_image_bytes, splits
from fastsam_batch.sources.parquetrows import ColumnNames, RowReader
from fastsam_batch.sources.tarstream import BrokenTarError, TarImage, stream_images
from fastsam_batch.storage import is_local, open_path, open_whole

_OPEN_TARS = 2
_KEPT_BYTES = 64 * 2**20


class ShardReader:
    """`read` as the function given, but the tars asked for last, and the last Parquet file, whose `columns` hold the
    images, stay open where they were read up to.

    What of a tar is passed over on the way to an image stays in bounded memory for a while: a page asks for
    neighbours, and not in order. An export that asks in a shard's order reads it once. Safe to use from many threads.
    """

    def __init__(self, read: Callable[[str], bytes] = read_image_bytes, columns: ColumnNames | None = None) -> None:
        self._read = read
        self._opened = ExitStack()
        self._rows = self._opened.enter_context(RowReader(columns or ColumnNames()))
        self._rows_lock = threading.Lock()
        self._tars: OrderedDict[str, _OpenTar] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, uri: str) -> bytes:
        """Bytes of the image at a stored URI. Raises FileNotFoundError and OSError as the function given."""
        inside = next(splits(uri), None)
        if inside is None or _is_plain(uri):
            return self._read(uri)
        container, member = inside
        try:
            return self._row(container, int(member)) if holds_rows(container) else self._tar(container).read(member)
        except (OSError, ValueError, pa.ArrowException, BrokenTarError, KeyError):
            return self._read(uri)  # with its retries, other meanings of the name, and its own words

    def close(self) -> None:
        """Close what is open."""
        with self._lock:
            for tar in self._tars.values():
                tar.close()
            self._tars.clear()
        with self._rows_lock:
            self._opened.close()

    def _row(self, container: str, row: int) -> bytes:
        """Raises KeyError where the row has no bytes, or another thread reads rows: whoever asks need not wait."""
        if not self._rows_lock.acquire(blocking=False):
            raise KeyError(row)
        try:
            rows = self._rows.read(container, row, row + 1)
        finally:
            self._rows_lock.release()
        if not rows or rows[0].data is None:
            raise KeyError(row)
        return rows[0].data

    def _tar(self, container: str) -> _OpenTar:
        with self._lock:
            if container not in self._tars:
                self._tars[container] = _OpenTar(container)
                if len(self._tars) > _OPEN_TARS:
                    self._tars.popitem(last=False)[1].close()
            self._tars.move_to_end(container)
            return self._tars[container]


class _OpenTar:
    """A tar read forward as far as was asked for; `read` raises KeyError for a member it does not hold."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._lock = threading.Lock()
        self._open = ExitStack()
        self._images: Iterator[TarImage] | None = None
        self._passed: set[str] = set()
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._kept_bytes = 0

    def read(self, member: str) -> bytes:
        with self._lock:
            if member in self._kept:
                return self._kept[member]
            try:
                return self._read_on(member)
            except BaseException:
                self._rewind()
                raise

    def close(self) -> None:
        with self._lock:
            self._rewind()

    def _read_on(self, member: str) -> bytes:
        if self._images is None or member in self._passed:
            self._rewind()
            fs, path = open_path(self._uri)
            self._images = stream_images(self._open.enter_context(open_whole(fs, path)))
        for image in self._images:
            self._passed.add(image.name)
            wanted = image.name == member
            small = not image.unread and image.size <= _KEPT_BYTES // 4
            if not wanted and not small:
                image.skip()
                continue
            data = image.load()
            if small:
                self._keep(image.name, data)
            if wanted:
                return data
        raise KeyError(member)

    def _keep(self, name: str, data: bytes) -> None:
        self._kept_bytes += len(data) - len(self._kept.pop(name, b""))
        self._kept[name] = data
        while self._kept_bytes > _KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1])

    def _rewind(self) -> None:
        self._open.close()
        self._images = None
        self._passed.clear()


def _is_plain(uri: str) -> bool:
    fs, path = open_path(uri)  # a local file's own name may look like a member's
    return bool(is_local(fs) and fs.isfile(path))
