"""Options that several commands have, said in the same words: what `add_argument` takes besides their names."""

from __future__ import annotations

from typing import Any

CORPUS: dict[str, Any] = {"required": True, "metavar": "URI", "help": "what segment_corpus made"}
TEXT_ENCODER: dict[str, Any] = {"help": "where the corpus's own text encoder is now, if not where it was"}
ACTORS: dict[str, Any] = {"metavar": "N|MIN:MAX", "help": "size of the actor pool; default: what the cluster holds"}
GPUS_PER_ACTOR: dict[str, Any] = {"type": float, "default": 1.0, "help": "share of a GPU an actor takes"}
MAX_FAILED: dict[str, Any] = {"type": float, "default": 1.0, "help": "exit 3 where more of the corpus failed"}
SEVERAL: dict[str, Any] = {"nargs": "+", "action": "extend"}
