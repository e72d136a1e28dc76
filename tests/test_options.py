"""Options: what a rerun must say again, and values that are refused."""

from __future__ import annotations

import pytest

from fastsam_batch.config import segment_options
from fastsam_batch.corpus.info import admit, write_info
from fastsam_batch.errors import InputError
from fastsam_batch.reembed import _options
from fastsam_batch.run import _describe


def described(**values):
    return _describe(segment_options({"input": "/in", "output": "/out", "embedder": "none", **values}))[0]


def test_a_rerun_that_forgets_a_column_is_refused(tmp_path):
    named, plain = described(bytes_column="jpg", uri_column="link", id_column="key"), described()
    assert not {"bytes_column", "uri_column", "id_column"} & {*plain.options}  # older corpora are still added to
    write_info(str(tmp_path), named)
    with pytest.raises(InputError, match="--bytes-column was jpg, is bytes; --id-column was key, is not given; --uri"):
        admit(str(tmp_path), plain)
    assert admit(str(tmp_path), named) == named


def test_a_corpus_is_embedded_anew_from_its_own_columns():
    there = described(bytes_column="jpg", id_column="key")
    options = _options(there, {"output": "/anew", "bytes_column": None, "id_column": None, "uri_column": "link"})
    assert (options.bytes_column, options.id_column, options.uri_column) == ("jpg", "key", "link")
    assert _options(described(), {"output": "/anew"}).id_column == "image_id"


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan"), 1e9])
def test_decoding_ends(seconds):
    with pytest.raises(InputError, match="--decode-seconds"):
        segment_options({"input": "/in", "output": "/out", "decode_seconds": seconds})
