"""Search over a corpus: from words, or masks, to a table of masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from fastsam_batch.corpus.read import Corpus, Where
from fastsam_batch.corpus.schema import masks_schema
from fastsam_batch.errors import InputError
from fastsam_batch.ranges import check_range, several
from fastsam_batch.search.background import Background, background_of, cached_background
from fastsam_batch.search.best import Hit, MaskKey, Query
from fastsam_batch.search.engine import Engine
from fastsam_batch.search.likeness import mask_keys, mask_name
from fastsam_batch.search.queries import mask_queries, text_queries
from fastsam_batch.search.scan import check_embedded
from fastsam_batch.search.texts import TEMPLATES, EncodeTexts, TextEncoder
from fastsam_batch.search.thin import STORED, Rows, Thin
from fastsam_batch.storage import redact

ENGINE_KEY = b"fastsam_batch.engine"


def find_masks(
    corpus: Corpus,
    texts: str | Sequence[str] = (),
    *,
    like: str | MaskKey | Sequence[str | MaskKey] = (),
    top_k: int = 10,
    min_score: float | None = None,
    min_calibrated: float | None = None,
    contrasts: str | Sequence[str] = (),
    per_image: int | None = None,
    distinct: float | None = None,
    where: Where = None,
    engine: str = "auto",
    encode: EncodeTexts | None = None,
    background: Background | None = None,
    templates: Sequence[str] = TEMPLATES,
    left: Callable[[], bool] = lambda: False,
) -> pa.Table:
    """The masks of the whole corpus that look most like each text, or each mask of `like`: `hits_schema`.

    Rows go by query, texts first, then by rank. Each text is a query of its own; `a cup|a mug` is one query of
    which any alternative will do. `like` are stored masks, as `mask_keys` takes them, which their own query
    leaves out and whose `text` is `image_id#mask_index`. `contrasts` are texts that a mask must look less like
    than the query. `where` filters masks by their own columns and their image's (see `parse_where`).

    `top_k` masks a query at most, `per_image` of one image; `distinct` leaves out a mask whose IoU with a
    better hit of its image reaches it. `min_score` leaves out masks whose raw cosine is lower, and
    `min_calibrated` those that the text describes less well than background texts do (`Background.calibrate`;
    0.5: less well than all of them together). Those that reach it are looked for among the best 1,000 by cosine,
    or four times `top_k`, not counting what `per_image` and `distinct` leave out; it says nothing of `like`.

    `engine` is `auto` (a fresh index where there is one, else the exact scan), `index`, `scan`, or
    `distributed` (the scan as a Ray Data job); `engine_of` says what answered. An index finds nearly all of
    what the scan does, with the same cosines.
    `encode` gives unit vectors float32 [n, D] of n sentences; a `TextEncoder` says the model's temperature too,
    any other is taken for one of 100. Without it the text encoder that corpus.json names is loaded, where there is
    a text, and kept by `corpus`. `background` is as `background_of` gives it, made where `min_calibrated` needs it;
    the column `calibrated` is null without. A scan asks `left` now and then whether anybody waits for it still.
    Raises AbandonedError where nobody does, InputError for a corpus without embeddings, a wrong filter or option, an
    empty text, an unknown mask.
    """
    texts, masks, contrasts = several(texts), mask_keys(like), several(contrasts)
    if not masks and not texts:
        raise InputError("there is nothing to search for; name at least one text or mask")
    check_range("--min-score", min_score, -1, 1)
    thin = Thin(top_k, per_image, distinct, min_calibrated)
    common: dict[str, Any] = {"min_score": min_score, "contrasts": contrasts, "templates": templates}
    queries: list[Query] = []
    own = encode is None
    if encode is None and (texts or contrasts):
        encode = corpus.text_encoder()
    if texts and encode is not None:
        if min_calibrated is not None and background is None:
            background = corpus_background(corpus, encode) if own else background_of(encode)
        queries += text_queries(texts, encode, background=background, **common)
    if masks:
        queries += mask_queries(corpus, masks, encode, **common)
    answering = Engine(corpus, engine, left=left)
    hits, rows = thin.search(answering, queries, where)
    table = _table([*texts, *map(mask_name, masks)], hits, rows)
    return table.replace_schema_metadata({ENGINE_KEY: "+".join(answering.used)})


def engine_of(hits: pa.Table) -> str:
    """What answered a search: `index`, `scan`, or `index+scan` where some queries needed both."""
    used: bytes = (hits.schema.metadata or {}).get(ENGINE_KEY, b"")
    return used.decode()


def hits_schema() -> pa.Schema:
    """Columns of a search result: text, rank (from 1), similarity (raw cosine), calibrated (null where it was
    not asked for), the mask's own, and its image's uri.
    """
    masks = masks_schema(None)
    ours = [("text", pa.string()), ("rank", pa.int32()), ("similarity", pa.float32())]
    return pa.schema(
        [
            *(pa.field(*each, nullable=False) for each in ours),
            pa.field("calibrated", pa.float32()),
            *(masks.field(name) for name in STORED),
            pa.field("uri", pa.string(), nullable=False),
        ]
    )


def corpus_encoder(corpus: Corpus, name: str | None = None) -> TextEncoder:
    """The text encoder of the corpus's embeddings, loaded from where corpus.json says or from `name`.

    Raises InputError where the corpus has no embeddings, or the weights found are not those it was made with.
    """
    check_embedded(corpus)
    embedder = corpus.info["models"]["embedder"]
    # A text encoder costs seconds to load and brings PyTorch: only searches without their own pay for it.
    from fastsam_batch.models.embedder import Embedder

    name = name or embedder.get("text_encoder", embedder["name"])
    loaded = Embedder(name)
    if sorted(loaded.files.sha256().values()) != sorted(embedder["sha256"].values()):
        raise InputError(
            f"--embedder {loaded.name}: its weights are not those the corpus {redact(corpus.uri)} was embedded with "
            f"({embedder['name']}); name a copy of those"
        )
    return TextEncoder(loaded.encode_texts, loaded.temperature)


def corpus_background(corpus: Corpus, encode: EncodeTexts) -> Background:
    """The background texts in the words of the corpus's text encoder, computed once for its weights."""
    return cached_background(encode, corpus.info["models"]["embedder"]["sha256"])


def _table(texts: Sequence[str], hits: Sequence[Sequence[Hit]], rows: Rows) -> pa.Table:
    found = [
        {"text": text, "rank": rank, "similarity": hit.similarity, "calibrated": hit.calibrated}
        | rows[hit.image_id, hit.mask_index]
        for text, text_hits in zip(texts, hits, strict=True)
        for rank, hit in enumerate(text_hits, start=1)
    ]
    return pa.Table.from_pylist(found, schema=hits_schema())
