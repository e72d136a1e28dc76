"""corpus.json: what a corpus is made of, and whether a run may add to it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from typing import Any

import fastsam_batch
from fastsam_batch.corpus.layout import CORPUS_FILE
from fastsam_batch.corpus.schema import SCHEMA_VERSION, check_document, violations
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.outage import explain, is_answer, is_refusal
from fastsam_batch.storage import Uri, absolute, filesystem, join, read_whole, redact, write_atomic

BYTES_COLUMN = "bytes"  # where nothing else is said


@dataclass(frozen=True)
class CorpusInfo:
    """Content of corpus.json (schemas/corpus.v1.json).

    `bytes_column` of a Parquet input is written only where it is another than bytes.
    """

    input: str
    options: dict[str, Any]
    models: dict[str, Any]
    embedding_dim: int | None
    fingerprint: str
    created_by: str
    created_at: str
    schema_version: int = SCHEMA_VERSION
    bytes_column: str = BYTES_COLUMN

    @classmethod
    def of(cls, document: dict[str, Any]) -> CorpusInfo:
        """What a corpus.json says, but for fields that this version does not know."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in document.items() if name in known})


def describe(
    input_uri: str,
    options: dict[str, Any],
    models: dict[str, Any],
    embedding_dim: int | None,
    bytes_column: str = BYTES_COLUMN,
) -> CorpusInfo:
    """The description of a corpus to be made; its fingerprint covers the options and the weights' digests."""
    weights = {role: model and sorted(model["sha256"].values()) for role, model in models.items()}
    basis = json.dumps({"schema": SCHEMA_VERSION, "options": options, "weights": weights}, sort_keys=True)
    return CorpusInfo(
        input=redact(absolute(input_uri)),
        options=options,
        models=models,
        embedding_dim=embedding_dim,
        fingerprint=hashlib.sha256(basis.encode()).hexdigest(),
        created_by=f"fastsam-batch {fastsam_batch.__version__}",
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        bytes_column=bytes_column,
    )


def read_info(corpus_uri: str) -> CorpusInfo | None:
    """What corpus.json says, or None where there is none. Raises as `read_document`."""
    document = _document(corpus_uri)
    return None if document is None else CorpusInfo.of(document)


def write_info(corpus_uri: str, info: CorpusInfo) -> None:
    """Make corpus.json. Raises InputError where the output cannot be written, OutageError where its store fails."""
    fs, root = filesystem(corpus_uri)
    content = asdict(info)
    if info.bytes_column == BYTES_COLUMN:
        del content["bytes_column"]
    try:
        write_atomic(fs, join(root, CORPUS_FILE), json.dumps(content, indent=1).encode())
    except OSError as error:
        raise unwritable(corpus_uri, error) from error


def read_document(corpus_uri: Uri) -> dict[str, Any]:
    """The content of corpus.json (schemas/corpus.v1.json).

    Raises InputError where there is none, a damaged one or one of a newer version, OutageError where its store fails.
    """
    document = _document(corpus_uri)
    if document is None:
        raise InputError(
            f"{redact(corpus_uri)} is not a corpus: it holds no {CORPUS_FILE}; name the output of a segment job"
        )
    return document


def _document(corpus_uri: Uri) -> dict[str, Any] | None:
    """None where there is no corpus.json."""
    fs, root = filesystem(corpus_uri)
    name = f"{redact(corpus_uri)}/{CORPUS_FILE}"
    try:
        data = read_whole(fs, join(root, CORPUS_FILE))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except Exception as error:
        if not is_answer(error):
            raise
        raise InputError(f"cannot read {name}: {explain(error)}") from error
    try:
        document = json.loads(data)
        version = document.get("schema_version") if isinstance(document, dict) else None
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        if not newer:
            content = check_document("corpus", document)
            if faults := violations("corpus", content, unknown_fields=True):
                raise ValueError(faults[0])
            return content
    except ValueError as error:
        raise InputError(f"{name}: damaged ({error}); restore it, or segment to another --output") from error
    raise InputError(
        f"{name} has schema version {version} and this fastsam-batch knows {SCHEMA_VERSION}: update fastsam-batch, or "
        "segment to another --output"
    )


def unwritable(corpus_uri: str, error: Exception) -> InputError | OutageError:
    """The sentence for an output that cannot be written: an outage where that may pass by itself."""
    what = f"--output {redact(corpus_uri)}: cannot be written ({explain(error)})"
    if isinstance(error, OutageError) and not is_refusal(error):
        return OutageError(what)
    return InputError(f"{what}; name another place, or credentials that may write there")


def admit(corpus_uri: str, info: CorpusInfo) -> CorpusInfo | None:
    """The description of the corpus that is there, if a run as described by `info` may add to it; None where
    there is none.

    Raises InputError, with every difference, where the corpus was made from another input, with other
    options or with other weights.
    """
    there = read_info(corpus_uri)
    if there is None:
        return None
    differences = _differences(there, info)
    if differences:
        raise InputError(
            f"{redact(corpus_uri)} was made differently: {'; '.join(differences)}. "
            "Use the same options to add to it, or another --output"
        )
    return there


def _differences(there: CorpusInfo, here: CorpusInfo) -> list[str]:
    found = []
    if _place(there.input) != _place(here.input):
        found.append(f"--input was {there.input}, is {here.input}")
    if there.bytes_column != here.bytes_column:
        found.append(f"--bytes-column was {there.bytes_column}, is {here.bytes_column}")
    for name in sorted({*there.options, *here.options}):
        before, now = there.options.get(name), here.options.get(name)
        if before != now:
            found.append(f"--{name.replace('_', '-')} was {_value(before)}, is {_value(now)}")
    for role in ("segmenter", "embedder"):
        before, now = there.models[role], here.models[role]
        if (before and sorted(before["sha256"].values())) != (now and sorted(now["sha256"].values())):
            found.append(f"the {role} was {_model(before)}, is {_model(now)}")
    return found


def _place(uri: str) -> str:
    if uri.startswith("file:"):
        uri = filesystem(uri)[1]
    return absolute(uri).rstrip("/")  # a description may be older than `absolute`


def _value(value: Any) -> Any:
    return "not given" if value is None else value


def _model(model: dict[str, Any] | None) -> str:
    if model is None:
        return "none"
    digests = ", ".join(f"{name} {digest[:12]}" for name, digest in sorted(model["sha256"].items()))
    return f"{model['name']} ({digests})"
