"""Where bytes live: fsspec paths, and writes that are either whole or absent."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, TypeAlias

from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.outage import WholeFile, answering, code_of, explain, is_outage, retry

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# A place as people give it: a URI, or a path as text or pathlib's.
Uri: TypeAlias = str | os.PathLike[str]

WEB = ("http", "https")
_AZURE = ("abfs", "abfss", "az")
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # what file systems without hard links say


def filesystem(uri: Uri) -> tuple[AbstractFileSystem, str]:
    """Filesystem and path of a URI (a local path, file://, s3://, gs://, http(s)://, memory://).

    Names may hold any character, `::` too, which fsspec reads as its own; `~` alone begins a home folder. Raises
    InputError for a scheme that no installed fsspec backend serves, for fsspec's chains of several, and for keys in an
    S3 address: they come from the environment only; the S3 endpoint from AWS_ENDPOINT_URL, which botocore reads itself.
    Raises OutageError where a backend that asks its server at once has no answer.
    """
    uri = os.fspath(uri)
    if _is_bare(uri):
        return _local(os.path.expanduser(uri))
    import fsspec

    head, separator, rest = uri.partition("::")
    if _is_bare(head) or "://" in rest:
        raise InputError(f"cannot open {redact(uri)}: it needs one scheme alone")
    if head.startswith(("s3:", "s3a:")) and "@" in head.split("/", 3)[2]:
        raise InputError(f"cannot open {redact(uri)}: S3's keys belong in the environment, not in the address")
    try:
        fs, path = fsspec.core.url_to_fs(head)
    except Exception as error:  # some of fsspec's ask their server at once, or for arguments that no address holds
        kind = OutageError if is_outage(error) else InputError
        raise kind(f"cannot open {redact(uri)}: {explain(error)}") from error
    return fs, path + separator + rest


def _is_bare(uri: str) -> bool:
    """True for a local path without a scheme: behind a folder `://` is part of a name, such as a tar's member's."""
    scheme, separator, _ = uri.partition("://")
    return (not separator or "/" in scheme) and not uri.startswith("file:")


def _local(path: str) -> tuple[AbstractFileSystem, str]:
    from fsspec.implementations.local import LocalFileSystem

    return LocalFileSystem(), os.path.abspath(path)


def redact(uri: Uri) -> str:
    """The URI without user, password or a web address's query, fit for logs, errors and stored files."""
    uri = os.fspath(uri)
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    if scheme.lower() in WEB:
        address, query, _ = rest.partition("?")
        if query and "/" not in address:  # right behind the host, or within a password: which, nothing tells
            return f"{scheme}://{'' if '@' in rest else address}"
        rest = address
    authority, slash, path = rest.partition("/")
    user, _, host = authority.rpartition("@")
    if scheme.lower() in _AZURE and ":" not in user:  # container@account
        host = authority
    return f"{scheme}://{host}{slash}{path}"


def absolute(uri: Uri) -> str:
    """A local path from the root, so that it means the same in every working folder; any other URI as it is."""
    uri = os.fspath(uri)
    if "://" in uri or uri.startswith(("file:", "demo:")):
        return uri
    return os.path.abspath(os.path.expanduser(uri))


def join(uri: Uri, *parts: str) -> str:
    """`uri` with `parts` behind it, one slash between each."""
    return "/".join([os.fspath(uri).rstrip("/"), *(part.strip("/") for part in parts)])


def ends_in(uri: Uri, endings: str | tuple[str, ...]) -> bool:
    """Whether a name ends in one of these (lower case), in small or capital letters."""
    return os.fspath(uri).lower().endswith(endings)


def check_ending(uri: Uri, endings: tuple[str, ...]) -> None:
    """Raise InputError unless a result's name ends in one of these, which tell its format; worth asking before work."""
    if not ends_in(uri, endings):
        raise InputError(f"cannot tell the format of {redact(uri)}; end its name in {' or '.join(endings)}")


def is_local(fs: AbstractFileSystem) -> bool:
    """True where paths are files of this machine."""
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    return protocol in ("file", "local")


def open_path(uri: str) -> tuple[AbstractFileSystem, str]:
    """As `filesystem`, but `~` is a name like any other."""
    return _local(uri) if _is_bare(uri) else filesystem(uri)


@contextmanager
def open_whole(fs: AbstractFileSystem, path: str) -> Iterator[WholeFile]:
    """A file to read, whose store's failures are OutageErrors. Raises FileNotFoundError and other answers, for a
    pipe, socket or device an InputError: opening one may wait for ever.
    """
    if is_local(fs) and os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise InputError(f"{path} is no regular file")
    with answering():
        file = fs.open(path, "rb")
    with file:
        yield WholeFile(file)


def read_whole(fs: AbstractFileSystem, path: str) -> bytes:
    """All bytes of a small file, retried. Raises FileNotFoundError, or OutageError where the store keeps failing."""

    def read() -> bytes:
        with open_whole(fs, path) as file:
            return file.read()

    with _told_of(path):
        return retry(read)


def read_range(fs: AbstractFileSystem, path: str, start: int, length: int) -> bytes:
    """`length` bytes of a file from byte `start` on, fewer where it ends before, retried. Raises as `read_whole`."""

    def read() -> bytes:
        with answering():
            content: bytes = fs.cat_file(path, start=start, end=start + length)
            # A damaged footer names bytes that its file does not have: that is the file's fault.
            wanted = length if len(content) == length else min(length, fs.size(path) - start)
        if len(content) < wanted:
            raise OutageError(f"the store sent {len(content)} of {wanted} bytes")
        return content

    with _told_of(path):
        return retry(read)


def list_names(fs: AbstractFileSystem, folder: str) -> list[str]:
    """Last parts of what lies in a folder of our own, as it is now; none where there is no folder. Retried."""

    def names() -> list[str]:
        with answering():
            fs.invalidate_cache()  # other processes write here
            try:
                return [path.rstrip("/").rpartition("/")[2] for path in fs.ls(folder, detail=False)]
            except FileNotFoundError:
                return []

    with _told_of(folder):
        return [name for name in retry(names) if not name.startswith(".")]


def list_files(fs: AbstractFileSystem, folder: str, suffix: str) -> list[str]:
    """Paths of what lies in a folder of our own and ends in `suffix`, sorted; as `list_names`."""
    return [join(folder, name) for name in sorted(list_names(fs, folder)) if name.endswith(suffix)]


def write_atomic(fs: AbstractFileSystem, path: str, data: bytes) -> None:
    """Put `data` at `path` so that a reader sees all of it or nothing, replacing what was there.

    An object store publishes an object when its upload completes; a local file is written beside its
    name, synced, and renamed. Raises OutageError where the store keeps failing, a full disk included.
    """

    def write() -> None:
        with answering():
            if not is_local(fs):
                fs.pipe_file(path, data)
                return
            with renamed_when_whole(path) as file:
                file.write(data)

    with _told_of(path):
        retry(write)


@contextmanager
def _told_of(path: str) -> Iterator[None]:
    """Outages name what could not be reached."""
    try:
        yield
    except OutageError as error:
        raise OutageError(f"{redact(path)}: {error}") from error


def create_new(fs: AbstractFileSystem, path: str, data: bytes) -> bool:
    """Put `data` at `path` unless something is there; False where something else is. Of several at once, one wins.

    An object store does this by a conditional write (S3's If-None-Match), a file system by a hard link.
    """

    def create() -> None:
        with answering():
            if is_local(fs):
                with renamed_when_whole(path, _link) as file:
                    file.write(data)
                return
            try:
                fs.pipe_file(path, data, mode="create")
            except OSError as error:
                if code_of(error) == "PreconditionFailed":  # not every S3 server says which condition
                    raise FileExistsError(path) from error
                raise

    # That something is there may be the work of our own request, its answer lost: its content tells.
    with suppress(FileExistsError), _told_of(path):
        retry(create)
    fs.invalidate_cache(path)  # a listing from before may hold another version of it, which S3 then refuses to give
    try:
        return read_whole(fs, path) == data
    except FileNotFoundError:
        return False


def _link(temporary: str, path: str) -> None:
    """Give a whole file its name, unless that is taken. Raises FileExistsError."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with open(path, "xb") as file, open(temporary, "rb") as whole:
            shutil.copyfileobj(whole, file)


def write_result(uri: Uri, data: bytes) -> None:
    """Put a file that the user asked for at `uri`, whole. Raises InputError where it cannot be written."""
    with open_result(uri) as file:
        file.write(data)


@contextmanager
def open_result(uri: Uri) -> Iterator[IO[bytes]]:
    """A file that the user asked for, to be written bit by bit: at `uri` when the block ends, whole, or not at all.

    A link is followed; for an object store it lies on the local disk until then. Raises InputError where it cannot be
    written, or what is there is no file, OutageError where a store fails. What the block raises as one stays one.
    """
    fs, path = filesystem(uri)
    if path.startswith(("http://", "https://")):  # its client would post the file to whatever answers there
        raise InputError(f"cannot write {redact(uri)}: web addresses are read only; name a path or an object store")
    try:
        if is_local(fs):
            path = os.path.realpath(path)
            if os.path.exists(path) and not os.path.isfile(path):
                raise InputError(f"cannot write {redact(uri)}: a device, pipe or folder is there; name a file")
            with renamed_when_whole(path) as file:
                yield file
            return
        with tempfile.NamedTemporaryFile() as local:
            yield local
            local.flush()

            def put() -> None:  # a file opened there would be complete wherever writing it broke off
                with answering():
                    fs.put_file(local.name, path)

            with _told_of(redact(uri)):
                retry(put)
    except OutageError:  # of what is read for it, too
        raise
    except OSError as error:
        raise InputError(f"cannot write {redact(uri)}: {error.strerror or explain(error)}") from error


@contextmanager
def renamed_when_whole(path: str, rename: Callable[[str, str], None] = os.replace) -> Iterator[IO[bytes]]:
    """A local file that is beside its name until the block ends, and not at all where that fails. Raises OSError."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, f".{os.path.basename(path)}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        rename(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
