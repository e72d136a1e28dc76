"""Is a corpus what it says it is: every receipt, file, digest, count and row against the contract."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from fastsam_batch import storage
from fastsam_batch.corpus import layout
from fastsam_batch.corpus.plan import pending, read_plans, unplanned
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.rows import FOOTER_KEY
from fastsam_batch.corpus.schema import images_schema, masks_schema, violations
from fastsam_batch.corpus.verify_rows import image_problems, mask_problems
from fastsam_batch.errors import InputError, OutageError, first_line

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

# Each thread holds the two files of one unit.
VERIFY_THREADS = 4


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: `file` relative to the corpus, `problem` in words."""

    file: str
    problem: str


@dataclass
class VerifyReport:
    """What was checked and what is wrong. `notes` are worth knowing and no fault."""

    units: int = 0
    images: int = 0
    masks: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True where nothing is wrong."""
        return not self.problems


@dataclass
class _Unit:
    """One unit, checked."""

    unit_id: str
    problems: list[Problem] = field(default_factory=list)
    image_ids: list[str] = field(default_factory=list)
    masks: int = 0

    def add(self, file: str, problem: str) -> None:
        self.problems.append(Problem(file, problem))


def verify_corpus(corpus_uri: storage.Uri) -> VerifyReport:
    """Check all of a corpus. Reads every file once; holds a few units and all image_ids.

    Units that are not finished are notes, and so are files without a receipt: an interrupted run leaves them and the
    next one overwrites them.
    Raises InputError where there is no corpus at all, OutageError where its store fails.
    """
    corpus = Corpus.open(corpus_uri)
    fs, root = storage.filesystem(corpus_uri)
    receipts = storage.list_files(fs, storage.join(root, layout.RECEIPTS_FOLDER), ".json")
    unit_ids = [_stem(path) for path in receipts]
    with ThreadPoolExecutor(VERIFY_THREADS) as pool:
        units = list(pool.map(partial(_check_unit, fs, root, corpus.info), unit_ids))
    report = VerifyReport(len(units), sum(len(unit.image_ids) for unit in units), sum(unit.masks for unit in units))
    report.problems += [Problem(layout.CORPUS_FILE, text) for text in violations("corpus", corpus.info)]
    report.problems += [problem for unit in units for problem in unit.problems]
    report.problems += _repeated_images(units)
    _check_plan(corpus.uri, unit_ids, report)
    report.notes += _orphans(fs, root, set(unit_ids))
    return report


def _check_unit(fs: AbstractFileSystem, root: str, info: dict[str, Any], unit_id: str) -> _Unit:
    unit = _Unit(unit_id)
    name = layout.receipt_file(unit_id)
    try:
        receipt = json.loads(storage.read_whole(fs, storage.join(root, name)))
    except OutageError:
        raise
    except (OSError, ValueError) as error:
        unit.add(name, f"cannot be read as JSON ({first_line(error)})")
        return unit
    if faults := violations("receipt", receipt):
        unit.problems += [Problem(name, fault) for fault in faults]
        return unit
    if receipt["unit_id"] != unit_id:
        unit.add(name, f"names unit {receipt['unit_id']}")
    if receipt["fingerprint"] != info.get("fingerprint"):
        unit.add(name, f"has another fingerprint than {layout.CORPUS_FILE}: its rows are not comparable")

    dim = info.get("embedding_dim")
    image_file, mask_file = layout.images_file(unit_id), layout.masks_file(unit_id)
    read = partial(_read_table, fs, root, unit, str(info.get("fingerprint")))
    images = read(receipt["files"]["images"], image_file, images_schema())
    masks = read(receipt["files"]["masks"], mask_file, masks_schema(dim))
    if images is not None:
        unit.image_ids = images["image_id"].to_pylist()
        unit.problems += [Problem(image_file, text) for text in image_problems(images, unit_id)]
        failed = Counter(kind for kind in images["error_kind"].to_pylist() if kind is not None)
        _check_count(unit, "images", receipt["images"], len(images))
        _check_count(unit, "failed", receipt["failed"], images["status"].to_pylist().count("failed"))
        _check_count(unit, "failures", receipt["failures"], dict(failed))
    if masks is not None:
        unit.masks = len(masks)
        _check_count(unit, "masks", receipt["masks"], len(masks))
    if images is not None and masks is not None:
        unit.problems += [Problem(mask_file, text) for text in mask_problems(masks, images, embedded=dim is not None)]
    return unit


def _check_count(unit: _Unit, key: str, said: Any, found: Any) -> None:
    if said != found:
        unit.add(layout.receipt_file(unit.unit_id), f"says {key}: {said}, the files hold {found}")


def _read_table(
    fs: AbstractFileSystem,
    root: str,
    unit: _Unit,
    fingerprint: str,
    entry: dict[str, Any],
    file: str,
    schema: pa.Schema,
) -> pa.Table | None:
    """The table of a file where its rows can be checked; what is wrong with the file goes to the unit."""
    if entry["path"] != file:
        unit.add(layout.receipt_file(unit.unit_id), f"names {entry['path']} where the layout has {file}")
        return None
    try:
        data = storage.read_whole(fs, storage.join(root, file))
    except FileNotFoundError:
        unit.add(file, "is missing")
        return None
    except OutageError:
        raise
    except OSError as error:
        unit.add(file, f"cannot be read ({first_line(error)})")
        return None
    if len(data) != entry["bytes"]:
        unit.add(file, f"has {len(data)} bytes, its receipt says {entry['bytes']}")
    elif hashlib.sha256(data).hexdigest() != entry["sha256"]:
        unit.add(file, "has another SHA-256 than its receipt says")
    try:
        table = pq.read_table(pa.BufferReader(data))
        table.validate(full=True)
    except (OSError, pa.ArrowException) as error:
        unit.add(file, f"is no readable Parquet file ({first_line(error)})")
        return None
    footer = (table.schema.metadata or {}).get(FOOTER_KEY)
    if footer is None:
        unit.add(file, f"has no {FOOTER_KEY.decode()} entry in its footer")
    elif fingerprint.encode() not in footer:
        unit.add(file, f"has another fingerprint in its footer than {layout.CORPUS_FILE}")
    faults = _schema_faults(table.schema, schema)
    unit.problems += [Problem(file, fault) for fault in faults]
    return None if faults else table


def _schema_faults(found: pa.Schema, expected: pa.Schema) -> list[str]:
    faults = [f"has no column {name}" for name in expected.names if name not in found.names]
    faults += [f"has a column {name} that the contract has not" for name in found.names if name not in expected.names]
    if faults:
        return faults
    if found.names != expected.names:
        return [f"has its columns in the order {', '.join(found.names)}"]
    return [
        f"has column {theirs}, the contract says {ours}"
        for theirs, ours in zip(found, expected, strict=True)
        if not theirs.equals(ours)
    ]


def _repeated_images(units: list[_Unit]) -> list[Problem]:
    first: dict[str, str] = {}
    problems = []
    for unit in units:
        for image_id in unit.image_ids:
            if image_id in first:
                problem = f"image {image_id} is also in {layout.images_file(first[image_id])}"
                problems.append(Problem(layout.images_file(unit.unit_id), problem))
            else:
                first[image_id] = unit.unit_id
    return problems


def _check_plan(corpus_uri: str, unit_ids: list[str], report: VerifyReport) -> None:
    """Tell what would keep the next run from knowing what is there, and how much is left for it."""
    try:
        rows, files = read_plans(corpus_uri)
    except InputError as error:
        report.problems.append(Problem(layout.PLAN_FOLDER, str(error)))
        return
    if not files:
        report.notes.append(Problem(layout.PLAN_FOLDER, "is empty: the corpus can be read, and no run can add to it"))
        return
    report.problems += [
        Problem(layout.receipt_file(unit_id), f"is of a unit that no file in {layout.PLAN_FOLDER}/ names")
        for unit_id in unplanned(rows, unit_ids)
    ]
    if report.ok and (left := len(pending(corpus_uri, rows)[0])):
        unfinished = f"units and shards that are not finished: {left:,}; run the same job again"
        report.notes.append(Problem(layout.PLAN_FOLDER, unfinished))


def _orphans(fs: AbstractFileSystem, root: str, unit_ids: set[str]) -> list[Problem]:
    return [
        Problem(
            f"{folder}/{_stem(path)}.parquet",
            "has no receipt: left by an interrupted run, ignored by readers",
        )
        for folder in (layout.MASKS_FOLDER, layout.IMAGES_FOLDER)
        for path in storage.list_files(fs, storage.join(root, folder), ".parquet")
        if _stem(path) not in unit_ids
    ]


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]
