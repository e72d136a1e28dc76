"""The LanceDB table below a corpus's index folder: where it is, what its rows are, and how it is asked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fastsam_batch import storage
from fastsam_batch.corpus import layout
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.vectors import embedding_matrix
from fastsam_batch.errors import InputError, OutageError

TABLE = "masks"
_BOX = ("bbox_x", "bbox_y", "bbox_width", "bbox_height")
_OF_MASKS = ("area", "score", "stability")
_OF_IMAGES = ("uri", "width", "height", "n_masks")
# What a filter may name without leaving the index; those with an order have a scalar index of their own.
FILTERS = frozenset({"image_id", "mask_index", "unit_id", *_BOX, *_OF_MASKS, *_OF_IMAGES})
SCALARS = ("unit_id", "image_id", "area", "score", "stability", *_BOX, "width", "height", "n_masks")
KEYS = ["unit_id", "image_id", "mask_index"]


def connect(corpus_uri: str) -> Any:
    """The LanceDB database in a corpus's index folder, local or s3:// or gs://.

    S3 keys, region and endpoint come from the usual AWS variables. Raises InputError without the extra
    `index`, or for another kind of store.
    """
    try:
        import lancedb
    except ImportError as error:
        raise InputError("an index needs LanceDB; install it by: pip install 'fastsam-batch[index]'") from error
    fs, path = storage.filesystem(corpus_uri)
    if storage.is_local(fs):
        return lancedb.connect(storage.join(path, layout.INDEX_FOLDER))
    uri = storage.join(corpus_uri, layout.INDEX_FOLDER)
    scheme = uri.partition("://")[0]
    if scheme not in ("s3", "gs"):
        raise InputError(
            f"{storage.redact(corpus_uri)}: an index lives on a local disk, s3:// or gs://; copy the corpus"
        )
    return lancedb.connect(uri, storage_options=_s3_options() if scheme == "s3" else None)


@contextmanager
def telling_of_table(corpus: Corpus) -> Iterator[None]:
    """A table of which files are gone or broken, or a store that fails, comes out as a sentence.

    LanceDB has RuntimeError for both; its words name its own inner files.
    """
    try:
        yield
    except RuntimeError as error:
        what = f"cannot read the index {storage.redact(corpus.uri)}/{layout.INDEX_FOLDER}"
        remedy = "delete that folder and build it anew by index_corpus, or search with --engine scan"
        if storage.is_local(storage.filesystem(corpus.uri)[0]):
            raise InputError(f"{what}: files of it are missing or broken; {remedy}") from error
        raise OutageError(f"{what}: its store fails, or files of it are missing; if that stays so, {remedy}") from error


def _s3_options() -> dict[str, str]:
    names = {
        "AWS_ACCESS_KEY_ID": "aws_access_key_id",
        "AWS_SECRET_ACCESS_KEY": "aws_secret_access_key",
        "AWS_SESSION_TOKEN": "aws_session_token",
        "AWS_DEFAULT_REGION": "aws_region",
        "AWS_REGION": "aws_region",
        "AWS_ENDPOINT_URL": "aws_endpoint",
        "AWS_ENDPOINT_URL_S3": "aws_endpoint",
    }
    options = {option: os.environ[name] for name, option in names.items() if os.environ.get(name)}
    if options.get("aws_endpoint", "").startswith("http://"):
        options["allow_http"] = "true"
    return options


def table_schema(dim: int) -> pa.Schema:
    """One row a mask that has an embedding."""
    return pa.schema(
        [
            ("unit_id", pa.string()),
            ("image_id", pa.string()),
            ("mask_index", pa.int32()),
            *((name, pa.float32()) for name in _BOX),
            ("area", pa.int32()),
            ("score", pa.float32()),
            ("stability", pa.float32()),
            ("uri", pa.string()),
            *((name, pa.int32()) for name in ("width", "height", "n_masks")),
            ("embedding", pa.list_(pa.float16(), dim)),
        ]
    )


def unit_rows(corpus: Corpus, units: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of these units, a batch at a time."""
    schema = table_schema(corpus.embedding_dim or 1)
    columns = ["unit_id", "image_id", "mask_index", "bbox", *_OF_MASKS, "embedding"]
    for start in range(0, len(units), 64):
        part = corpus.only(units[start : start + 64])
        images = part.images(["image_id", *_OF_IMAGES])
        for batch in part.mask_batches(columns, pc.field("embedding").is_valid()):
            finite = np.isfinite(embedding_matrix(batch["embedding"])).all(axis=1)
            if not finite.all():  # a damaged embedding, which no search finds and LanceDB refuses
                batch = batch.filter(pa.array(finite))
            place = pc.index_in(batch["image_id"], images["image_id"])
            of_images = images.take(place)
            boxes = batch["bbox"].flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
            named = {name: batch[name] for name in (*KEYS, *_OF_MASKS, "embedding")}
            named |= {name: pa.array(np.ascontiguousarray(boxes[:, i])) for i, name in enumerate(_BOX)}
            named |= {name: of_images[name].combine_chunks() for name in _OF_IMAGES}
            yield pa.record_batch([named[name] for name in schema.names], schema=schema)


def nearest(
    table: Any,
    vector: NDArray[np.float32],
    limit: int,
    condition: str | None,
    probes: int | None,
    refine: int,
) -> pa.Table:
    """The `limit` rows nearest to a unit vector, with their embeddings; `probes` None compares with every row."""
    query = table.search(vector, vector_column_name="embedding").distance_type("cosine").limit(limit)
    if condition is not None:
        query = query.where(condition, prefilter=True)
    query = query.bypass_vector_index() if probes is None else query.nprobes(probes).refine_factor(refine)
    return query.select([*KEYS, "embedding", "_distance"]).to_arrow()
