"""A store that fails when told to: flaky:// holds what memory:// holds."""

from __future__ import annotations

from typing import Any, ClassVar

from fsspec.implementations.memory import MemoryFileSystem


class FlakyFileSystem(MemoryFileSystem):
    """Raises the errors listed under a path, one an opening, then works; `after` bytes are read first."""

    protocol = "flaky"
    failures: ClassVar[dict[str, list[tuple[Exception, int]]]] = {}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("flaky://", "memory://"))

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        opened = super()._open(path, mode, **options)
        pending = self.failures.get(path)
        return _Failing(opened, *pending.pop(0)) if pending else opened

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        with self._open(self._strip_protocol(path)) as file:
            return file.read()


class _Failing:
    def __init__(self, file: Any, error: Exception, after: int) -> None:
        self._file, self._error, self._left = file, error, after

    def __enter__(self) -> _Failing:
        return self

    def __exit__(self, *_: object) -> None:
        self._left = 0

    def read(self, size: int = -1) -> bytes:
        if self._left <= 0:
            raise self._error
        data = self._file.read(min(size, self._left) if size >= 0 else self._left)
        self._left -= len(data)
        if size < 0:
            raise self._error
        return data

    def close(self) -> None:
        self._left = 0
