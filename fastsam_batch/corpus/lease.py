"""One job at a time on an output: a lease that its holder keeps renewing.

Whether a holder still lives is told by whether its lease changes, not by clocks, which differ between machines. A
job that was killed leaves its lease behind: on the same machine its process is known to be gone, so the next job goes
on at once; from elsewhere that takes SILENT_S.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fastsam_batch.corpus.info import unwritable
from fastsam_batch.corpus.layout import LEASE_FILE
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.outage import answering
from fastsam_batch.storage import create_new, filesystem, is_local, join, read_whole, redact, write_atomic

BEAT_S = 4.0
SILENT_S = 20.0
_LOOK_S = 0.5

logger = logging.getLogger(__name__)


class Lease:
    """The right to write to a corpus, as long as `check` is quiet. `run` names this job among all."""

    def __init__(self, corpus_uri: str, beat_s: float = BEAT_S) -> None:
        self.run = uuid.uuid4().hex[:8]
        self._uri = corpus_uri
        self._fs, root = filesystem(corpus_uri)
        self._path = join(root, LEASE_FILE)
        self._beat_s = beat_s
        self._beats = 0
        self._content = {
            "run": self.run,
            "host": socket.gethostname(),
            "processes": _process_space(),
            "pid": os.getpid(),
            "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        self._lost: dict[str, Any] | None = None
        self._ended = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True, name="lease")

    def check(self) -> None:
        """Raises InputError where another job has taken the output over, this one having been silent."""
        if self._lost is not None:
            raise InputError(f"{_taken(self._uri, self._lost)}: this one was silent too long and stops")

    def acquire(self, silent_s: float = SILENT_S) -> None:
        """Take the lease. Raises InputError where another job holds it, or the output cannot be written, OutageError
        where its store fails.
        """
        watched: bytes | None = None
        silent_since = 0.0
        while not self._create():
            there = self._read()
            if there is None:
                continue  # just released
            holder = _parse(there)
            if there != watched:
                if watched is not None and _parse(watched).get("run") == holder.get("run"):
                    raise InputError(f"{_taken(self._uri, holder)}: wait until it has ended, or write elsewhere")
                watched, silent_since = there, time.monotonic()
                if not _is_gone(holder):
                    logger.warning("%s: seeing whether it still runs", _taken(self._uri, holder))
            if _is_gone(holder) or time.monotonic() - silent_since > silent_s:
                self._remove(there)
            else:
                time.sleep(_LOOK_S)
        self._renewing.start()

    def release(self) -> None:
        """Give the lease back, if it is still ours, and leave no empty folder behind."""
        self._ended.set()
        self._renewing.join()
        with contextlib.suppress(OutageError):  # then it runs out by itself
            there = self._read()
            if there is not None and _parse(there).get("run") == self.run:
                self._remove(there)
        if is_local(self._fs):
            with contextlib.suppress(OSError):  # a corpus has begun in it
                os.rmdir(os.path.dirname(self._path))

    def _renew(self) -> None:
        while not self._ended.wait(self._beat_s):
            with contextlib.suppress(OSError):  # an outage or a refusal: the next beat tries again
                there = self._read()
                holder = _parse(there) if there is not None else {}
                if holder.get("run") != self.run:
                    self._lost = holder
                    return
                self._beats += 1
                if not self._ended.is_set():
                    write_atomic(self._fs, self._path, self._bytes())

    def _bytes(self) -> bytes:
        return json.dumps({**self._content, "beat": self._beats}).encode()

    def _create(self) -> bool:
        try:
            return create_new(self._fs, self._path, self._bytes())
        except (OSError, NotImplementedError) as error:  # fsspec's word for a store that can only be read
            raise unwritable(self._uri, error) from error

    def _read(self) -> bytes | None:
        # Who lists an input that the output lies below has the lease in the listing, as it was then.
        self._fs.invalidate_cache(self._path)
        try:
            return read_whole(self._fs, self._path)
        except FileNotFoundError:
            return None

    def _remove(self, content: bytes) -> None:
        """Remove the lease, unless it has changed meanwhile."""
        if self._read() == content:
            with contextlib.suppress(FileNotFoundError), answering():
                self._fs.rm_file(self._path)


@contextlib.contextmanager
def hold(corpus_uri: str) -> Iterator[Lease]:
    """The lease of a corpus, renewed in the background until the end. Raises InputError as `Lease.acquire`."""
    lease = Lease(corpus_uri)
    lease.acquire()
    try:
        yield lease
    finally:
        lease.release()


def _parse(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError:  # being written where a file system knows no hard links
        return {}
    return content if isinstance(content, dict) else {}


def _taken(corpus_uri: str, holder: dict[str, Any]) -> str:
    who = f"process {holder.get('pid', '?')} on {holder.get('host', '?')}, since {holder.get('since', '?')}"
    return f"another job writes to {redact(corpus_uri)} ({who})"


def _is_gone(holder: dict[str, Any]) -> bool:
    """True where the holder ran among the processes that this one can see, and is none of them."""
    if holder.get("host") != socket.gethostname() or holder.get("processes") != _process_space():
        return False
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, ValueError):
        return False
    return False


def _process_space() -> str:
    """Names the set of processes that this one can see: containers of one host have their own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return ""
