"""Every mask of a corpus with its label, as one Parquet file written bit by bit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from fastsam_batch import storage
from fastsam_batch.corpus.read import Corpus, Where
from fastsam_batch.corpus.vectors import embedding_matrix
from fastsam_batch.search.classes import ClassQuery
from fastsam_batch.search.labels import assign_labels, encode_classes
from fastsam_batch.search.scan import check_embedded
from fastsam_batch.search.texts import EncodeTexts

FORMATS = (".parquet",)
# `score` is the cosine with the best text of the label; both are null for a mask without one.
LABELS_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("mask_index", pa.int32(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("score", pa.float32()),
    ]
)


def write_labels(
    corpus: Corpus, classes: Sequence[ClassQuery], encode: EncodeTexts, uri: storage.Uri, where: Where = None
) -> Counter[str | None]:
    """Write `LABELS_SCHEMA`, one row a mask, to `uri`; how many masks got each label, None for no label.

    The classes lie in the file's metadata. `where` filters masks (see `parse_where`). Raises InputError for a
    name that does not end in .parquet, a corpus without embeddings, and where the file cannot be written.
    """
    storage.check_ending(uri, FORMATS)
    check_embedded(corpus)
    encoded = encode_classes(classes, encode)
    said = json.dumps([vars(each) for each in classes], ensure_ascii=False)
    schema = LABELS_SCHEMA.with_metadata({"classes": said, "fingerprint": corpus.info["fingerprint"]})
    counts: Counter[str | None] = Counter()
    for name in (*encoded.names, None):
        counts[name] = 0
    names = pa.array([*encoded.names, None], pa.string())  # the label -1 is the last of these
    with (
        storage.open_result(uri) as file,
        pq.ParquetWriter(file, schema, compression="zstd", use_dictionary=["image_id", "label"]) as writer,
    ):
        for batch in corpus.mask_batches(["image_id", "mask_index", "embedding"], where):
            labels, scores = assign_labels(embedding_matrix(batch["embedding"]), encoded)
            named = names.take(pa.array(labels % len(names)))
            rows = [batch["image_id"], batch["mask_index"], named, pa.array(scores, from_pandas=True)]
            writer.write_batch(pa.record_batch(rows, schema=schema))
            counts.update(named.to_pylist())
    return counts
