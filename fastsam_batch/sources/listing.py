"""The files of an input, by key: their path below the input's folder."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.outage import answering, explain, is_answer, is_storage_error, retry
from fastsam_batch.signatures import unsigned
from fastsam_batch.sources.fetch import refusal
from fastsam_batch.sources.names import is_hidden
from fastsam_batch.storage import is_local, open_path, redact

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")
_BRACES = re.compile(r"\{[^{}/]*(?:\.\.|,)[^{}/]*\}")
_CORPUS_FILE, _FIRST_PLAN = "corpus.json", "plan/0001.parquet"  # what tells a corpus: corpus/layout.py
_FOLDERS, _KINDS = ("plan/", "masks/", "images/", "receipts/"), (".parquet", ".json")  # its files, as far as formats go


class Entry(NamedTuple):
    """One file: its key, with forward slashes, and its size in bytes where the store tells it."""

    key: str
    size: int | None


class Listing:
    """A folder, a glob or one file. Hidden files and folders are left out, and any corpus below; linked folders are
    not followed.

    A listing of millions of files is made once: `entries` keeps it for the `take` that follows, and
    pickling leaves it behind.
    """

    def __init__(self, uri: str) -> None:
        """Raises InputError where nothing is there, or it cannot be looked at."""
        if "://" in uri and "::" in uri:
            raise InputError(f"{redact(uri)} chains file systems with `::`, which is not supported")
        self._uri = _absolute(uri)
        self._entries: list[Entry] | None = None
        self._base, self._pattern = _guarded(self._uri, self._locate)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_entries": None}

    def __str__(self) -> str:
        return redact(self._uri)

    @property
    def is_file(self) -> bool:
        """True where the input names one file."""
        return self._base is None

    def uri_of(self, key: str) -> str:
        """Where the file of a key is read."""
        return self._uri if self._base is None else f"{self._base}/{key}"

    @property
    def has_secrets(self) -> bool:
        """True where a corpus may not hold the input as it is."""
        return unsigned(self._uri) != self._uri

    def with_secrets(self, uri: str) -> str:
        """The URI of a file as `uri_of` gives it, from how a corpus may hold it."""
        whole = self._uri if self._base is None else f"{self._base}/"
        held = unsigned(whole)
        if self._base is None:
            return whole if uri == held else uri
        return whole + uri[len(held) :] if uri.startswith(held) else uri

    def entries(self) -> list[Entry]:
        """All files, sorted by key, listed at the first call."""
        if self._entries is None:
            self._entries = sorted(_guarded(self._uri, self._list))
        return self._entries

    def take(self) -> list[Entry]:
        """As `entries`, forgotten afterwards: the next call looks again."""
        taken = self.entries()
        self._entries = None
        return taken

    def _locate(self) -> tuple[str | None, str | None]:
        fs, path = open_path(self._uri)
        fs.invalidate_cache()  # a rerun in one process must see what was added
        if not self._uri.endswith("/") and fs.isfile(path):
            return None, None
        if fs.isdir(path):
            return self._uri if self._uri.endswith("://") else self._uri.rstrip("/"), None
        head, pattern = _split_glob(self._uri)
        if pattern is None:
            glob = _BRACES.sub("*", str(self))  # as WebDataset's users write shards
            hint = "" if glob == str(self) else f"; braces are not expanded: write {glob}"
            raise InputError(f"{self} does not exist{hint}")
        return head, pattern

    def _list(self) -> list[Entry]:
        fs, path = open_path(self._uri)
        if self._base is None:
            name = urlsplit(self._uri).path if self._uri.startswith("http") else path
            return [Entry(name.rpartition("/")[2], fs.info(path).get("size"))]
        base = open_path(self._base)[1].rstrip("/") + "/" if self._base else "/"
        if self._pattern is None:
            found = _find(fs, path)
        else:
            pattern = self._pattern.replace("?", "[?]") if self._uri.startswith("http") else self._pattern
            found = _glob(fs, base, pattern.rstrip("/").split("/"))
        entries = (Entry(name[len(base) :], info.get("size")) for name, info in found.items() if name.startswith(base))
        seen = [entry for entry in entries if entry.key.strip("/") and not is_hidden(entry.key)]
        corpora = _corpora(fs, base, (entry.key for entry in seen))
        return [entry for entry in seen if not any(_is_of(corpus, entry.key) for corpus in corpora)]


def _corpora(fs: AbstractFileSystem, base: str, keys: Iterable[str]) -> tuple[str, ...]:
    """Keys of the folders that hold a corpus, such as the output of the job itself: its files are no input."""
    folders = (key.removesuffix(_FIRST_PLAN) for key in keys if f"/{key}".endswith(f"/{_FIRST_PLAN}"))
    return tuple(folder for folder in folders if _is_there(fs, base + folder + _CORPUS_FILE))


def _is_of(corpus: str, key: str) -> bool:
    """Whether a file is of the corpus in a folder. Beside one in the input's own there may be images."""
    if corpus:
        return key.startswith(corpus)
    return key == _CORPUS_FILE or (key.startswith(_FOLDERS) and key.endswith(_KINDS))


def _is_there(fs: AbstractFileSystem, path: str) -> bool:
    try:
        fs.info(path)  # `exists` says no where a store does not answer
    except FileNotFoundError:
        return False
    return True


def _glob(fs: AbstractFileSystem, folder: str, parts: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Files below a folder that the parts of a pattern match, and all below folders that they do, as `_find`.

    fsspec's own would take a folder that cannot be listed, for now or ever, for an empty one.
    """
    from fsspec.utils import glob_translate

    part, rest = parts[0], parts[1:]
    folder = folder.rstrip("/")
    if "**" in part:
        matches = re.compile(glob_translate("/".join(parts))).match
        below = _find(fs, folder or "/").items()
        return {name: info for name, info in below if any(map(matches, _with_folders(name[len(folder) + 1 :])))}
    stem = re.split(r"[*?\[]", part)[0]
    if rest and stem == part:
        return _glob(fs, f"{folder}/{part}", rest)
    matches = re.compile(glob_translate(part)).match
    found: dict[str, dict[str, Any]] = {}
    for info in _level(fs, folder or "/", stem):
        name = info["name"].rstrip("/")
        if not matches(name.rpartition("/")[2]):
            continue
        if info["type"] == "directory":
            found |= _glob(fs, name, rest) if rest else _find(fs, name)
        elif not rest:
            found[name] = info
    return found


def _with_folders(path: str) -> list[str]:
    """A path, and each folder on it."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _level(fs: AbstractFileSystem, folder: str, stem: str) -> list[dict[str, Any]]:
    """What lies in a folder itself, nothing where there is none; a store that can leaves out what begins otherwise."""
    if is_local(fs):
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            kinds = {entry.path: "directory" if entry.is_dir(follow_symlinks=False) else "file" for entry in entries}
            return [{"name": path, "type": kind, "size": _size_of(path)} for path, kind in kinds.items()]
        return []
    if stem and "s3" in fs.protocol:
        with suppress(ValueError):  # older versions of s3fs
            return list(fs.find(folder, maxdepth=1, withdirs=True, detail=True, prefix=stem).values())
    try:
        found: list[dict[str, Any]] = fs.ls(folder, detail=True)
    except FileNotFoundError:
        return []
    return [info for info in found if info["name"].rstrip("/") != folder]  # a folder's own mark


def _find(fs: AbstractFileSystem, folder: str) -> dict[str, dict[str, Any]]:
    """All files below a folder with what the store tells of them."""
    if not is_local(fs):
        found: dict[str, dict[str, Any]] = fs.find(folder, detail=True)
        return found

    def refuse(error: OSError) -> None:  # fsspec would take a folder that may not be read for an empty one
        raise error

    paths = (os.path.join(top, name) for top, _, names in os.walk(folder, onerror=refuse) for name in names)
    return {path: {"size": _size_of(path)} for path in paths}


def _size_of(path: str) -> int | None:
    """None for a link to nothing, and for what was removed after it was listed."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None


def _absolute(uri: str) -> str:
    if "://" in uri and not uri.startswith("file:"):
        return uri
    fs, path = open_path(os.path.expanduser(uri))
    return path if is_local(fs) else uri


def _split_glob(uri: str) -> tuple[str, str | None]:
    """The folder before the first wildcard, and the rest; (uri, None) where there is none."""
    wildcards = r"[*\[]" if uri.startswith("http") else r"[*?\[]"  # `?` starts a query there
    scheme, separator, rest = uri.rpartition("://")
    parts = rest.split("/")
    for index, part in enumerate(parts):
        if re.search(wildcards, part):
            return scheme + separator + "/".join(parts[:index]), "/".join(parts[index:])
    return uri, None


def _look(look: Callable[[], T]) -> T:
    with answering():
        return look()


def _guarded(uri: str, look: Callable[[], T]) -> T:
    """The result of `look`, what a store raises turned into one sentence."""
    try:
        return retry(functools.partial(_look, look))
    except FileNotFoundError as error:
        raise InputError(f"{redact(uri)} does not exist") from error
    except OutageError as error:
        raise OutageError(f"cannot list {redact(uri)}: {explain(error)}") from error
    except InputError:
        raise
    except Exception as error:
        if not (is_storage_error(error) or is_answer(error)):
            raise
        raise InputError(refusal(uri, error) or f"cannot list {redact(uri)}: {explain(error)}") from error
