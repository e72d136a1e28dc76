"""Options that several commands have, said in the same words: what `add_argument` takes besides their names; and the
sentence for options that change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastsam_batch.errors import InputError

CORPUS: dict[str, Any] = {"required": True, "metavar": "URI", "help": "what segment_corpus made"}
TEXT_ENCODER: dict[str, Any] = {"help": "where the corpus's own text encoder is now, if not where it was"}
ACTORS: dict[str, Any] = {"metavar": "N|MIN:MAX", "help": "size of the actor pool; default: what the cluster holds"}
GPUS_PER_ACTOR: dict[str, Any] = {"type": float, "default": 1.0, "help": "share of a GPU an actor takes"}
MAX_FAILED: dict[str, Any] = {"type": float, "default": 1.0, "help": "exit 3 where more of the corpus failed"}
RECORD_UNREACHABLE: dict[str, Any] = {
    "action": "store_true",
    "help": "an image of a folder, or named by URI, that its store does not give fails, instead of leaving its unit "
    "to a rerun",
}
SEVERAL: dict[str, Any] = {"nargs": "+", "action": "extend"}


def refuse_unused(arguments: Mapping[str, Any], defaults: Mapping[str, Any], needed: str) -> None:
    """Raise InputError where one of these options, with their defaults, is given without what it is about."""
    for name, default in defaults.items():
        if arguments[name] != default:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option} has no use without {needed}; leave it out, or give {needed}")
