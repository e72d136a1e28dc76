"""A new folder of labels, and the photographs that go with them."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from PIL import Image

from fastsam_batch import storage
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.export.images import ExportImage
from fastsam_batch.images import ImageError, image_format
from fastsam_batch.outage import answering, explain, retry
from fastsam_batch.search.pictures import png_bytes

# Formats that browsers and training code read as they are, by Pillow's name: few browsers show a TIFF.
_ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp"}
_WRITERS = 8  # files on their way at once, each held in memory: a store, and a disk that syncs, lets each one wait


class Folder:
    """A folder that an export fills, in a `with`. Raises InputError where something lies there already, OutageError
    where its store fails.

    Files are written side by side. The first one that cannot be written ends the export, with its own error, at the
    next one or at `settle`; what is written behind a `settle` is there only where all before it is. An export that
    an outage or its user ends is told as what it is: another one of the same folder would be refused.
    """

    def __init__(self, uri: storage.Uri) -> None:
        self._uri = uri
        try:
            taken = retry(self._is_taken)
        except OutageError as error:
            raise OutageError(f"{storage.redact(uri)}: {explain(error)}") from error
        if taken:
            raise InputError(f"{storage.redact(uri)} is not an empty folder; name a new one")
        self._pool = ThreadPoolExecutor(_WRITERS)
        self._begun: deque[Future[None]] = deque()
        self._wrote = False

    def _is_taken(self) -> bool:
        fs, path = storage.filesystem(self._uri)
        with answering():
            return bool(fs.exists(path) and (fs.isfile(path) or fs.ls(path, detail=False)))

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self.settle()
        except OutageError as late:
            error = late
        finally:
            self._pool.shutdown(cancel_futures=True)
        if self._wrote and isinstance(error, OutageError | KeyboardInterrupt):
            why = error if isinstance(error, OutageError) else "the export was interrupted"
            raise InputError(
                f"{storage.redact(self._uri)} is only partly written ({why}); remove it, or export to a new folder"
            ) from error

    def write(self, name: str, data: bytes) -> None:
        """Put a file at a path below the folder, in its turn. Raises InputError where one before cannot be written."""
        self._wrote = True
        while len(self._begun) >= _WRITERS:
            self._begun.popleft().result()
        self._begun.append(self._pool.submit(storage.write_result, storage.join(self._uri, name), data))

    def settle(self) -> None:
        """Wait until all is written. Raises InputError where something cannot be."""
        while self._begun:
            self._begun.popleft().result()

    def copy_photograph(self, image: ExportImage, stem: str) -> str:
        """Put an image's photograph at `stem`, with the ending of what it is, and return that name.

        The bytes are copied as they are; a format that training code may not know becomes PNG. Raises
        InputError where it cannot be read or is not the one that was segmented.
        """
        try:
            data = image.data()
            ending = _ENDINGS.get(image_format(data) or "")
            if ending is None:
                data, ending = png_bytes(Image.fromarray(image.photographs.decode(data))), "png"
        except OutageError as error:
            raise OutageError(f"the photograph of {image.image_id!r}, {storage.redact(image.uri)}: {error}") from error
        except (OSError, ImageError) as error:
            raise InputError(
                f"cannot copy the photograph of {image.image_id!r}, {storage.redact(image.uri)} ({error}); "
                "bring it back, or leave the photographs out with --images none, and export to a new folder"
            ) from error
        self.write(f"{stem}.{ending}", data)
        return f"{stem}.{ending}"
