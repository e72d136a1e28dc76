"""Text search over a corpus: from words to a table of masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fastsam_batch.corpus.read import Corpus, Where
from fastsam_batch.corpus.schema import masks_schema
from fastsam_batch.errors import InputError
from fastsam_batch.search.query import TEMPLATES, EncodeTexts, text_vectors
from fastsam_batch.search.scan import Hit, scan


def find_masks(
    corpus: Corpus,
    texts: Sequence[str],
    *,
    top_k: int = 10,
    min_score: float | None = None,
    where: Where = None,
    encode: EncodeTexts | None = None,
    templates: Sequence[str] = TEMPLATES,
) -> pa.Table:
    """The masks of the whole corpus that look most like each text: `hits_schema`, by text, then rank.

    `top_k` masks a text at most; `min_score` leaves out masks whose raw cosine is lower, so that a text
    nothing answers has no rows. `where` filters masks (see `parse_where`). `encode` gives unit vectors
    float32 [n, D] of n sentences; without it the text encoder that corpus.json names is loaded.
    Raises InputError for a corpus without embeddings, a wrong filter, or an empty text.
    """
    texts = list(dict.fromkeys(texts))
    if encode is None:
        encode = corpus_encoder(corpus)
    hits = scan(corpus, text_vectors(texts, encode, templates), top_k, min_score, where)
    return _with_masks(corpus, texts, hits)


def hits_schema() -> pa.Schema:
    """Columns of a search result: text, rank (from 1), similarity (raw cosine), the mask's, and its uri."""
    masks = masks_schema(None)
    ours = [("text", pa.string()), ("rank", pa.int32()), ("similarity", pa.float32())]
    uri = pa.field("uri", pa.string(), nullable=False)
    stored = [masks.field(name) for name in masks.names if name != "embedding"]
    return pa.schema([*(pa.field(*each, nullable=False) for each in ours), *stored, uri])


def corpus_encoder(corpus: Corpus, name: str | None = None) -> EncodeTexts:
    """The text encoder of the corpus's embeddings, loaded from where corpus.json says or from `name`.

    Raises InputError where the corpus has no embeddings, or the weights found are not those it was made with.
    """
    embedder = corpus.info["models"]["embedder"]
    if embedder is None:
        raise InputError(f"the corpus {corpus.uri} has no embeddings to search; segment again with an embedder")
    # A text encoder costs seconds to load and brings PyTorch: only searches without their own pay for it.
    from fastsam_batch.models.embedder import Embedder

    name = name or embedder.get("text_encoder", embedder["name"])
    loaded = Embedder(name)
    if sorted(loaded.files.sha256().values()) != sorted(embedder["sha256"].values()):
        raise InputError(
            f"--embedder {name}: its weights are not those the corpus {corpus.uri} was embedded with "
            f"({embedder['name']}); name a copy of those"
        )
    return loaded.encode_texts


def _with_masks(corpus: Corpus, texts: Sequence[str], hits: Sequence[Sequence[Hit]]) -> pa.Table:
    """Hits with the columns of their masks, fetched from their own files only."""
    found = [hit for each in hits for hit in each]
    of_hits = pc.field("unit_id").isin(_distinct(hit.unit_id for hit in found))
    of_hits &= pc.field("image_id").isin(_distinct(hit.image_id for hit in found))
    wanted = {(hit.image_id, hit.mask_index) for hit in found}
    columns = [name for name in hits_schema().names if name not in ("text", "rank", "similarity", "uri")]
    masks: dict[tuple[str, int], dict[str, Any]] = {}
    for batch in corpus.mask_batches(columns, of_hits):
        keys = zip(batch["image_id"].to_pylist(), batch["mask_index"].to_pylist(), strict=True)
        kept = batch.filter(pa.array([key in wanted for key in keys], pa.bool_()))
        masks |= {(row["image_id"], row["mask_index"]): row for row in kept.to_pylist()}
    uris = corpus.images(["image_id", "uri"], of_hits).to_pylist()
    uri_of = {row["image_id"]: row["uri"] for row in uris}

    rows = [
        {"text": text, "rank": rank, "similarity": hit.similarity, "uri": uri_of[hit.image_id]}
        | masks[hit.image_id, hit.mask_index]
        for text, text_hits in zip(texts, hits, strict=True)
        for rank, hit in enumerate(text_hits, start=1)
    ]
    return pa.Table.from_pylist(rows, schema=hits_schema())


def _distinct(values: Iterable[str]) -> pa.Array:
    return pa.array(sorted(set(values)), pa.string())
