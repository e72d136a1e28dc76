"""Reading a corpus: committed units only, whatever else lies in its folders."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from fastsam_batch import storage
from fastsam_batch.corpus import layout
from fastsam_batch.corpus.dataset import broken_files, rows_of, unit_files
from fastsam_batch.corpus.filters import MaskFilter, filter_joined, mask_filter, masks_kept, of_image
from fastsam_batch.corpus.info import read_document
from fastsam_batch.corpus.products import Products
from fastsam_batch.corpus.schema import check_document, column_types, images_schema, masks_schema
from fastsam_batch.corpus.units_of import units_of_images
from fastsam_batch.corpus.vectors import Block, vector_blocks
from fastsam_batch.corpus.where import parse_where
from fastsam_batch.errors import InputError, NotInCorpusError, OutageError, first_line
from fastsam_batch.outage import explain, is_outage
from fastsam_batch.ranges import check_range, several
from fastsam_batch.read_each import read_each

if TYPE_CHECKING:
    from fastsam_batch.corpus.photographs import Photographs
    from fastsam_batch.search.image import CorpusImage
    from fastsam_batch.search.texts import TextEncoder

# A filter as `parse_where` reads it, a pyarrow expression, or all rows.
Where: TypeAlias = str | pc.Expression | None

BATCH_ROWS = 8192


class Corpus:
    """A finished or growing corpus. It sees the units whose receipts existed when it first looked.

    `uri` is where it lies, `info` the content of corpus.json (schemas/corpus.v1.json).
    """

    def __init__(self, uri: storage.Uri, info: dict[str, Any]) -> None:
        self.uri = os.fspath(uri)
        self.info = info
        self._fs, self._root = storage.filesystem(uri)
        self._only: list[str] | None = None
        self._known: Mapping[str, dict[str, Any]] = {}
        self._encoder: TextEncoder | None = None
        self._loading = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_encoder", "_loading", "_known")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._encoder, self._loading, self._known = None, threading.Lock(), {}

    @property
    def photographs(self) -> Photographs:
        """What reads its photographs anew."""
        from fastsam_batch.corpus.photographs import Photographs

        return Photographs.of(self.info)

    def only(self, units: Collection[str]) -> Corpus:
        """The same corpus of which these committed units alone are seen; no receipt is read that is known."""
        part = Corpus(self.uri, self.info)
        part._only, part._known = sorted(several(units)), self.__dict__.get("_receipts", {})
        return part

    def now(self) -> Corpus:
        """The corpus with the units that it has now, no known receipt read again; where it is `only` some, these."""
        if self._only is not None:
            return self
        now = Corpus(self.uri, self.info)
        now._known = self._receipts
        return now

    @classmethod
    def open(cls, uri: storage.Uri) -> Corpus:
        """The corpus at a URI or a path. Raises InputError where there is none, or one of a newer version, OutageError
        where its store fails.
        """
        return cls(uri, read_document(uri))

    def __repr__(self) -> str:
        return f"Corpus({storage.redact(self.uri)!r})"

    @property
    def name(self) -> str:
        """What a page calls it: the last part of its place."""
        return storage.redact(self.uri).rstrip("/").rpartition("/")[2] or "corpus"

    @property
    def embedding_dim(self) -> int | None:
        """D, the length of an embedding; None where masks were not embedded."""
        dim: int | None = self.info.get("embedding_dim")
        return dim

    def receipts(self) -> dict[str, dict[str, Any]]:
        """Receipts (schemas/receipt.v1.json) by unit_id, in the order of the names; read once."""
        return self._receipts

    def count(self, what: str) -> int:
        """How many `images`, `failed` ones or `masks` its receipts tell."""
        return sum(receipt[what] for receipt in self._receipts.values())

    def images(self, columns: Collection[str] | None = None, where: Where = None) -> pa.Table:
        """Rows of images (schemas/images.v1.json), failed images included.

        `where` is a filter as `parse_where` reads it, or a pyarrow expression. Raises InputError for an
        unknown column, a wrong filter, and a file that is missing or broken.
        """
        return pa.Table.from_batches(*self._scan("images", columns, where, BATCH_ROWS))

    def masks(self, columns: Collection[str] | None = None, where: Where = None) -> pa.Table:
        """Rows of masks (schemas/masks.v1.json), all in memory: `mask_batches` where they may not fit.

        `unit_id` can be named in `columns` and `where` too, though the files do not store it; a filter on it opens the
        named units' files only. A `where` in words can name columns of the images as well. Otherwise as `images`.
        """
        return pa.Table.from_batches(*self._scan("masks", columns, where, BATCH_ROWS))

    def image_batches(
        self, columns: Collection[str] | None = None, where: Where = None, batch_rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """As `images`, at most `batch_rows` rows at a time, in the corpus's order and in bounded memory."""
        return self._scan("images", columns, where, batch_rows)[0]

    def mask_batches(
        self, columns: Collection[str] | None = None, where: Where = None, batch_rows: int = BATCH_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """As `masks`, at most `batch_rows` rows at a time, in the corpus's order and in bounded memory."""
        return self._scan("masks", columns, where, batch_rows)[0]

    def vector_blocks(self, unit_id: str, products: Products, where: MaskFilter | None = None) -> Iterator[Block]:
        """A unit's masks that have an embedding, with their cosines with unit vectors [q, D], without Arrow's decoding.

        As `corpus.vectors.vector_blocks`, those alone for which a filter holds. Raises InputError for a file that is
        missing or broken, and so do the blocks where it becomes so.
        """
        name, kept = self._receipts[unit_id]["files"]["masks"]["path"], None
        path = storage.join(self._root, name)
        told = self._telling_of(name)  # a decorator, too
        with self._telling_of(name):
            if where is not None:
                file = unit_files(self._fs, {unit_id: path}, self._schemas("masks")[1])
                kept = masks_kept(file, where, partial(self._images_of, where, unit_id))
                if not kept.any():
                    return
            for block in vector_blocks(self._fs, path, products, kept):
                yield replace(block, embeddings=told(block.embeddings), keys=told(block.keys))

    @contextmanager
    def _telling_of(self, path: str) -> Iterator[None]:
        """What goes wrong with a file of the corpus comes out as a sentence on it."""
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise self._broken(path, error) from error

    def image(self, image_id: str) -> CorpusImage:
        """One image with its masks, ready for points and boxes. Raises NotInCorpusError for an unknown id."""
        # search is a room below this one, here and in `search`: what it answers from it is a corpus's all the same.
        from fastsam_batch.search.image import CorpusImage

        row = self.image_rows([image_id])[image_id]
        return CorpusImage(self, row, self.only([row["unit_id"]]).masks(where=of_image(row)).sort_by("mask_index"))

    def image_rows(self, image_ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """Rows of images (schemas/images.v1.json) by image_id. Raises NotInCorpusError for an unknown one.

        Opens the images files of the units that receipts and plan name for them, and all of them only where
        those do not hold them.
        """
        image_ids = several(image_ids)
        rows: dict[str, dict[str, Any]] = {}
        units = units_of_images(self._fs, self._root, self._receipts, image_ids)
        for part in (self.only(units), self):
            missing = [image_id for image_id in image_ids if image_id not in rows]
            if missing:
                found = part.images(where=pc.field("image_id").isin(pa.array(missing, pa.string()))).to_pylist()
                rows |= {row["image_id"]: row for row in reversed(found)}  # the first of several, as ever
        for image_id in image_ids:
            if image_id not in rows:
                raise NotInCorpusError(
                    f"{storage.redact(self.uri)} holds no image {image_id!r}; its images table lists them"
                )
        return rows

    def text_encoder(self) -> TextEncoder:
        """The text encoder of its embeddings, loaded once, whoever asks. Raises InputError as `corpus_encoder`."""
        from fastsam_batch.search.find import corpus_encoder

        with self._loading:
            if self._encoder is None:
                self._encoder = corpus_encoder(self)
        return self._encoder

    def search(self, texts: str | Collection[str] = (), **options: Any) -> pa.Table:
        """The masks that look most like texts, or masks (`like`): `search.find.find_masks`, whose options these are."""
        from fastsam_batch.search.find import find_masks

        return find_masks(self, several(texts), **options)

    @cached_property
    def _receipts(self) -> dict[str, dict[str, Any]]:
        units = self._only
        if units is None:
            files = storage.list_files(self._fs, storage.join(self._root, layout.RECEIPTS_FOLDER), ".json")
            units = [path.rpartition("/")[2].removesuffix(".json") for path in files]
        new = {unit: storage.join(self._root, layout.receipt_file(unit)) for unit in units if unit not in self._known}
        read = dict(zip(new, read_each(self._receipt, new.values()), strict=True))
        return {unit: read.get(unit) or self._known[unit] for unit in units}

    def _receipt(self, path: str) -> dict[str, Any]:
        try:
            receipt = check_document("receipt", json.loads(storage.read_whole(self._fs, path)))
            _ = receipt["files"]["masks"]["path"], receipt["files"]["images"]["path"]
        except OutageError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._broken(f"{layout.RECEIPTS_FOLDER}/{path.rpartition('/')[2]}", error) from error
        return receipt

    def _scan(
        self, kind: str, columns: Collection[str] | None, where: Where, batch_rows: int
    ) -> tuple[Iterator[pa.RecordBatch], pa.Schema]:
        stored, schema = self._schemas(kind)
        check_range("batch_rows", batch_rows, 1)
        names = list(stored.names) if columns is None else several(columns)
        for name in names:
            if name not in schema.names:
                raise InputError(f"{kind} have no column {name}; the columns are {', '.join(schema.names)}")
        selected = pa.schema([schema.field(name) for name in names])
        if isinstance(where, str) and kind == "images":
            where = parse_where(where, column_types(schema))
        elif isinstance(where, str):
            if (of_masks := self.mask_filter(where)).of_images:
                return self._joined(names, of_masks, batch_rows), selected
            where = of_masks.expression
        root = self._root
        paths = {unit: storage.join(root, receipt["files"][kind]["path"]) for unit, receipt in self._receipts.items()}
        return self._batches(unit_files(self._fs, paths, schema), names, where, batch_rows), selected

    def filter_columns(self) -> dict[str, pa.DataType]:
        """What a `where` on masks may name: their own columns, and those of their images."""
        return column_types(self._schemas("images")[1]) | column_types(self._schemas("masks")[1])

    def mask_filter(self, where: str | pc.Expression) -> MaskFilter:
        """A filter on masks, for `vector_blocks`. Raises InputError for a wrong one."""
        return mask_filter(where, self.filter_columns(), self._schemas("masks")[1].names)

    def _schemas(self, kind: str) -> tuple[pa.Schema, pa.Schema]:
        """What files of images or masks store, and what can be read of them: masks have a `unit_id`, too."""
        if kind == "images":
            return images_schema(), images_schema()
        stored = masks_schema(self.embedding_dim)
        return stored, stored.append(pa.field("unit_id", pa.string()))

    def _joined(self, names: list[str], where: MaskFilter, batch_rows: int) -> Iterator[pa.RecordBatch]:
        batches = self.mask_batches(dict.fromkeys([*names, *where.own, "image_id", "unit_id"]), None, batch_rows)
        return filter_joined(batches, partial(self._images_of, where), where.expression, names)

    def _images_of(self, where: MaskFilter, unit_id: str) -> pa.Table:
        return self.only([unit_id]).images(dict.fromkeys(["image_id", *where.of_images]))

    def _batches(
        self, files: ds.FileSystemDataset, names: list[str], where: pc.Expression | None, batch_rows: int
    ) -> Iterator[pa.RecordBatch]:
        try:
            yield from rows_of(files, names, where, batch_rows)
        except (OSError, pa.ArrowException) as error:
            if not storage.is_local(self._fs) and is_outage(error):  # whose file it met first says nothing
                raise OutageError(f"cannot read the corpus {storage.redact(self.uri)}: {explain(error)}") from error
            for path, problem in broken_files(files):
                raise self._broken(path[len(self._root) :].lstrip("/"), problem) from error
            raise

    def _broken(self, file: str, problem: Exception) -> InputError | OutageError:
        what = f"cannot read {file} of the corpus {storage.redact(self.uri)}"
        if not storage.is_local(self._fs) and is_outage(problem):
            return OutageError(f"{what}: {explain(problem)}")
        reason = "it is missing" if isinstance(problem, FileNotFoundError) else f"it is broken ({first_line(problem)})"
        return InputError(
            f"{what}: {reason}; "
            "verify_corpus lists every such file, and segmenting again after deleting its receipt restores it"
        )
