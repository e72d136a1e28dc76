"""Names of units and images, derived from keys alone so that every run finds the same."""

from __future__ import annotations

import hashlib
import re

from fastsam_batch.errors import InputError

_SLUG_CHARACTERS = 80


def unit_prefix(key: str) -> str:
    """A file-system-safe name for a shard: the readable end of its key and 8 hex digits of its SHA-1."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", key)[-_SLUG_CHARACTERS:].strip("-.") or "shard"
    digest = hashlib.sha1(key.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
    return f"{slug}-{digest[:8]}"


def unit_name(prefix: str, start: int) -> str:
    """The unit whose first image is the `start`-th of its shard, or of all loose files planned."""
    return f"{prefix}-{start:09d}"


def storable(name: str) -> str:
    """The name as UTF-8 can hold it: bytes of a foreign encoding become backslash escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def shard_key(key: str) -> str:
    """The key of a shard, by which a plan finds it again. Raises InputError for one that is not UTF-8."""
    if storable(key) != key:
        raise InputError(f"the shard {storable(key)}: its name is not UTF-8; rename it")
    return key


def is_hidden(key: str) -> bool:
    """True where a part of the path starts with a dot, `..` left out."""
    return any(part.startswith(".") and part not in (".", "..") for part in key.split("/"))


def suffix(key: str) -> str:
    """The lower-case suffix of a path's last part, with its dot; empty where it has none."""
    stem, dot, end = key.rpartition("/")[2].rpartition(".")
    return f".{end.lower()}" if dot and stem else ""
