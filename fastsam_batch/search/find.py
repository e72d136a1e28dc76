"""Search over a corpus: from words, or masks, to a table of masks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fastsam_batch.corpus.read import Corpus, Where
from fastsam_batch.corpus.schema import masks_schema
from fastsam_batch.errors import InputError
from fastsam_batch.search.best import Hit, MaskKey, Query, first_per_image
from fastsam_batch.search.distinct import check_max_iou, distinct_hits
from fastsam_batch.search.likeness import mask_name, mask_vectors
from fastsam_batch.search.query import TEMPLATES, EncodeTexts, alternatives, text_vectors
from fastsam_batch.search.scan import scan

# How many more hits are looked at, at first, where near-duplicates are to be left out.
_SPARE = 4


def find_masks(
    corpus: Corpus,
    texts: Sequence[str] = (),
    *,
    like: Sequence[MaskKey] = (),
    top_k: int = 10,
    min_score: float | None = None,
    contrasts: Sequence[str] = (),
    per_image: int | None = None,
    distinct: float | None = None,
    where: Where = None,
    encode: EncodeTexts | None = None,
    templates: Sequence[str] = TEMPLATES,
) -> pa.Table:
    """The masks of the whole corpus that look most like each text, or each mask of `like`: `hits_schema`.

    Rows go by query, texts first, then by rank. Each text is a query of its own; `a cup|a mug` is one query of
    which any alternative will do. `like` are (image_id, mask_index) of stored masks, which their own query
    leaves out and whose `text` is `image_id#mask_index`. `top_k` masks a query at most; `min_score` leaves out
    masks whose raw cosine is lower, so that a text nothing answers has no rows; `contrasts` are texts that a
    mask must look less like than the query. `per_image` masks of an image at most; `distinct` leaves out a mask
    whose IoU with a better hit of its image reaches it. `where` filters masks (see `parse_where`).
    `encode` gives unit vectors float32 [n, D] of n sentences; without it the text encoder that corpus.json
    names is loaded, where there is a text.
    Raises InputError for a corpus without embeddings, a wrong filter or option, an empty text, an unknown mask.
    """
    if per_image is not None and per_image < 1:
        raise InputError(f"--per-image {per_image}: ask for at least 1 mask an image")
    if distinct is not None:
        check_max_iou(distinct)
    texts = list(dict.fromkeys(texts))
    like = list(dict.fromkeys(like))
    if not like and not texts:
        raise InputError("there is nothing to search for; name at least one text or mask")
    if encode is None and (texts or contrasts):
        encode = corpus_encoder(corpus)
    queries = make_queries(corpus, texts, like, contrasts, min_score, per_image, encode, templates)
    hits, rows = _search(corpus, queries, top_k, where, distinct)
    return _table([*texts, *map(mask_name, like)], hits, rows)


def hits_schema() -> pa.Schema:
    """Columns of a search result: text, rank (from 1), similarity (raw cosine), the mask's, and its uri."""
    masks = masks_schema(None)
    ours = [("text", pa.string()), ("rank", pa.int32()), ("similarity", pa.float32())]
    uri = pa.field("uri", pa.string(), nullable=False)
    stored = [masks.field(name) for name in masks.names if name != "embedding"]
    return pa.schema([*(pa.field(*each, nullable=False) for each in ours), *stored, uri])


def make_queries(
    corpus: Corpus,
    texts: Sequence[str],
    like: Sequence[MaskKey],
    contrasts: Sequence[str],
    min_score: float | None,
    per_image: int | None,
    encode: EncodeTexts | None,
    templates: Sequence[str] = TEMPLATES,
) -> list[Query]:
    """Queries of texts and of masks, in this order; their options are those of `find_masks`."""
    groups = [alternatives(text) for text in texts]
    sentences = [*(each for group in groups for each in group), *contrasts]
    none_of = np.zeros((0, corpus.embedding_dim or 0), np.float32)
    found: list[np.ndarray] = []
    if sentences and encode is not None:
        vectors = text_vectors(sentences, encode, templates)
        none_of = vectors[len(vectors) - len(contrasts) :]
        found = np.split(vectors[: len(vectors) - len(contrasts)], np.cumsum([len(group) for group in groups])[:-1])
        found = found[: len(groups)]
    queries = [Query(any_of, none_of, min_score, per_image) for any_of in found]
    for mask, vector in zip(like, mask_vectors(corpus, like), strict=True):
        queries.append(Query(vector[None], none_of, min_score, per_image, frozenset([mask])))
    return queries


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


def _search(
    corpus: Corpus, queries: Sequence[Query], top_k: int, where: Where, distinct: float | None
) -> tuple[list[list[Hit]], dict[MaskKey, dict[str, Any]]]:
    """The hits of each query, and the rows of their masks."""
    rows: dict[MaskKey, dict[str, Any]] = {}
    if distinct is None:
        hits = scan(corpus, queries, top_k, where=where)
        _add_rows(corpus, hits, rows)
        return hits, rows
    # Which masks stay depends on better ones only: what is left of the best n is the beginning of what would
    # be left of all. Where it is too short, more are looked at.
    kept: dict[int, list[Hit]] = {}
    looked_at = top_k * _SPARE
    while len(kept) < len(queries):
        open_queries = [number for number in range(len(queries)) if number not in kept]
        # Of an image's masks the first few are taken among those that are left.
        unthinned = [replace(queries[number], per_image=None) for number in open_queries]
        found = scan(corpus, unthinned, looked_at, where=where)
        _add_rows(corpus, found, rows)
        for number, hits_of in zip(open_queries, found, strict=True):
            left = distinct_hits(hits_of, rows, distinct)
            if per_image := queries[number].per_image:
                left = first_per_image(left, per_image)
            if len(left) >= top_k or len(hits_of) < looked_at:
                kept[number] = left[:top_k]
        looked_at *= _SPARE
    return [kept[number] for number in range(len(queries))], rows


def _add_rows(corpus: Corpus, hits: Sequence[Sequence[Hit]], rows: dict[MaskKey, dict[str, Any]]) -> None:
    """Fetch the columns of the hits' masks, with their image's uri, from their own files only."""
    found = [hit for each in hits for hit in each if (hit.image_id, hit.mask_index) not in rows]
    of_hits = pc.field("unit_id").isin(_distinct(hit.unit_id for hit in found))
    of_hits &= pc.field("image_id").isin(_distinct(hit.image_id for hit in found))
    wanted = {(hit.image_id, hit.mask_index) for hit in found}
    uris = corpus.images(["image_id", "uri"], of_hits).to_pylist()
    uri_of = {row["image_id"]: row["uri"] for row in uris}
    columns = [name for name in hits_schema().names if name not in ("text", "rank", "similarity", "uri")]
    for batch in corpus.mask_batches(columns, of_hits):
        keys = zip(batch["image_id"].to_pylist(), batch["mask_index"].to_pylist(), strict=True)
        kept = batch.filter(pa.array([key in wanted for key in keys], pa.bool_()))
        for row in kept.to_pylist():
            rows[row["image_id"], row["mask_index"]] = row | {"uri": uri_of[row["image_id"]]}


def _table(texts: Sequence[str], hits: Sequence[Sequence[Hit]], rows: dict[MaskKey, dict[str, Any]]) -> pa.Table:
    found = [
        {"text": text, "rank": rank, "similarity": hit.similarity} | rows[hit.image_id, hit.mask_index]
        for text, text_hits in zip(texts, hits, strict=True)
        for rank, hit in enumerate(text_hits, start=1)
    ]
    return pa.Table.from_pylist(found, schema=hits_schema())


def _distinct(values: Iterable[str]) -> pa.Array:
    return pa.array(sorted(set(values)), pa.string())
