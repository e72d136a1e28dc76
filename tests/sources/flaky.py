"""A store that fails when told to: flaky:// holds what memory:// holds."""

from __future__ import annotations

from typing import Any, ClassVar

from fsspec.implementations.memory import MemoryFileSystem


class FlakyFileSystem(MemoryFileSystem):
    """Raises the errors listed under a path, one an opening, then works; `after` bytes are read first.

    Without an error, what is read just ends there, as a body cut on its way does.
    """

    protocol = "flaky"
    failures: ClassVar[dict[str, list[tuple[Exception | None, int]]]] = {}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("flaky://", "memory://"))

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        opened = super()._open(path, mode, **options)
        pending = self.failures.get(path)
        return _Failing(opened, *pending.pop(0)) if pending else opened

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        with self._open(self._strip_protocol(path)) as file:
            return file.read()[start:end]


class _Failing:
    def __init__(self, file: Any, error: Exception | None, after: int) -> None:
        self._file, self._error, self._left = file, error, after
        self.size = file.size
        self.closed = False

    def __enter__(self) -> _Failing:
        return self

    def __exit__(self, *_: object) -> None:
        self._left = 0

    def read(self, size: int = -1) -> bytes:
        if self._left <= 0:
            return self._end()
        data = self._file.read(min(size, self._left) if size >= 0 else self._left)
        self._left -= len(data)
        if size < 0 and self._error:
            raise self._error
        return data

    def _end(self) -> bytes:
        if self._error:
            raise self._error
        return b""

    def tell(self) -> int:
        return self._file.tell()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._left = 0
        self.closed = True
