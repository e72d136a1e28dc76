"""The made corpus as if the built-in CLIP had embedded it, for jobs that load its text encoder."""

from __future__ import annotations

import json
from pathlib import Path

from corpus.made_corpus import MadeCorpus, corpus_info, make_corpus, write

from fastsam_batch.models.embedder_files import find_embedder


def as_if_builtin(uri: str, photographs: Path) -> MadeCorpus:
    """Random embeddings of the built-in model's size, and its digests."""
    files, _ = find_embedder("builtin")
    config = json.loads((files.main.parent / "open_clip_config.json").read_text())
    dim = config["model_cfg"]["embed_dim"]
    made = make_corpus(uri, photographs, dim=dim)
    info = corpus_info(dim)
    info["models"]["embedder"]["sha256"] = files.sha256()
    write(uri, "corpus.json", json.dumps(info).encode())
    return made
