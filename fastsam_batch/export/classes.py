"""Labels for an export from saved queries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastsam_batch.corpus.vectors import embedding_matrix
from fastsam_batch.export.stream import Labeller
from fastsam_batch.search.classes import ClassQuery
from fastsam_batch.search.labels import assign_labels, encode_classes
from fastsam_batch.search.texts import EncodeTexts


def labeller_of(classes: Sequence[ClassQuery], encode: EncodeTexts) -> Labeller:
    """Gives stored embeddings the classes' labels, as `search.labels.assign_labels` does.

    `encode` gives unit vectors float32 [n, D] of n sentences.
    """
    encoded = encode_classes(classes, encode)

    def label(embedding: pa.FixedSizeListArray) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return assign_labels(embedding_matrix(embedding), encoded)

    return label
