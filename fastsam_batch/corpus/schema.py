"""Arrow schemas read from the contract in schemas/, which is their only definition."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

import pyarrow as pa

from fastsam_batch.errors import first_line

SCHEMA_VERSION = 1

_SCALARS = {
    "string": pa.string(),
    "int32": pa.int32(),
    "float32": pa.float32(),
    "halffloat": pa.float16(),
}


@cache
def contract(name: str) -> dict[str, Any]:
    """The JSON Schema `schemas/<name>.v1.json`; name is masks, images, receipt or corpus."""
    file_name = f"{name}.v{SCHEMA_VERSION}.json"
    package = files("fastsam_batch")
    shipped = package / "schemas" / file_name  # where the wheel puts it
    if not shipped.is_file():
        shipped = package / ".." / "schemas" / file_name  # a checkout
    loaded: dict[str, Any] = json.loads(shipped.read_text(encoding="utf-8"))
    return loaded


def check_document(name: str, document: Any) -> dict[str, Any]:
    """The content of a receipt or of a corpus.json, as `name` says, if it has the fields that the contract asks for.

    Raises ValueError, saying which it lacks. Their values are `violations`' matter: of a million receipts too much.
    """
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    missing = [field for field in contract(name)["required"] if field not in document]
    if missing:
        raise ValueError(f"without {', '.join(missing)}")
    return document


def violations(name: str, document: Any, *, unknown_fields: bool = False) -> list[str]:
    """Where a JSON document breaks its contract, in words; `unknown_fields` are let pass if so asked."""
    import jsonschema

    errors = jsonschema.Draft202012Validator(contract(name)).iter_errors(document)
    counted = [error for error in errors if not (unknown_fields and error.validator == "additionalProperties")]
    return [
        f"{error.json_path}: {first_line(error.message)}" for error in sorted(counted, key=lambda each: each.json_path)
    ]


def masks_schema(embedding_dim: int | None) -> pa.Schema:
    """Columns of masks/<unit>.parquet; without an embedder the embedding column is all null, of width 1."""
    return _schema(contract("masks"), embedding_dim or 1)


def images_schema() -> pa.Schema:
    """Columns of images/<unit>.parquet."""
    return _schema(contract("images"), 1)


def _schema(definition: dict[str, Any], dimension: int) -> pa.Schema:
    fields = []
    for name, column in definition["properties"].items():
        kinds = column["type"] if isinstance(column["type"], list) else [column["type"]]
        arrow_type = _arrow_type(column["x-arrow-type"].replace("[D]", f"[{dimension}]"))
        fields.append(pa.field(name, arrow_type, nullable="null" in kinds))
    return pa.schema(fields)


def _arrow_type(text: str) -> pa.DataType:
    if text in _SCALARS:
        return _SCALARS[text]
    if match := re.fullmatch(r"fixed_size_list<(.+)>\[(\d+)\]", text):
        return pa.list_(_arrow_type(match[1]), int(match[2]))
    if match := re.fullmatch(r"struct<(.+)>", text):
        members = [part.split(": ", 1) for part in match[1].split(", ")]
        return pa.struct([pa.field(name, _arrow_type(kind), nullable=False) for name, kind in members])
    raise ValueError(f"the contract names an Arrow type this version does not know: {text}")


def column_types(schema: pa.Schema) -> dict[str, pa.DataType]:
    """The type of each column, by its name."""
    return dict(zip(schema.names, schema.types, strict=True))
