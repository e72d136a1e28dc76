"""Photographs are read anew as they were when the corpus was made: its column of bytes, its limit of pixels."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpus.made_corpus import MadeCorpus, make_corpus, read, write, write_unit
from PIL import Image

from fastsam_batch import Corpus
from fastsam_batch.cli import job
from fastsam_batch.config import SegmentOptions
from fastsam_batch.corpus.info import describe, read_info, write_info
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.evaluate.speed import speed_figures
from fastsam_batch.export.budget import Budget
from fastsam_batch.export.folder import Folder
from fastsam_batch.export.images import ExportImage
from fastsam_batch.export.stream import Counts, labelled_images
from fastsam_batch.reembed import _options
from fastsam_batch.run import _describe
from fastsam_batch.search.find import hits_schema
from fastsam_batch.search.gallery import write_gallery
from fastsam_batch.search.pictures import read_photograph

NAME = "coffee.png"


@pytest.fixture
def packed(tmp_path: Path) -> MadeCorpus:
    """A corpus of photographs in a Parquet column called jpg, its limit of pixels as large as they are."""
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    made = make_corpus(str(tmp_path / "corpus"), photographs)
    pq.write_table(pa.table({"jpg": [Path(row["uri"]).read_bytes() for row in made.images]}), tmp_path / "rows.parquet")
    for number, row in enumerate(made.images):
        row["uri"] = f"{tmp_path}/rows.parquet#{number}"
    for unit in {row["unit_id"] for row in made.images}:
        images = [row for row in made.images if row["unit_id"] == unit]
        ids = {row["image_id"] for row in images}
        write_unit(made.uri, unit, images, [row for row in made.masks if row["image_id"] in ids])
    change(made, bytes_column="jpg", options={"max_pixels": 400 * 400})
    return made


def change(made: MadeCorpus, **values: object) -> None:
    write(made.uri, "corpus.json", json.dumps(json.loads(read(made.uri, "corpus.json")) | values).encode())


def test_every_reader_knows_the_column(packed: MadeCorpus, tmp_path: Path) -> None:
    corpus = Corpus.open(packed.uri)
    image = corpus.image(NAME)
    shape = image.row["height"], image.row["width"], 3
    assert image.pixels().shape == shape
    assert min(image.draw(image.point(200, 100)).size) > 100
    given = ["--corpus", packed.uri, "--image", NAME, "--point", "200,100", "--output", str(tmp_path / "x.png")]
    assert job("select", given) == 0
    for format_ in ("yolo", "sa1b"):
        given = ["--corpus", packed.uri, "--format", format_, "--output", str(tmp_path / format_), "--images", "copy"]
        assert job("export", given) == 0
        copies = list((tmp_path / format_).rglob("*.png"))
        assert len(copies) == sum(row["status"] == "ok" for row in packed.images)
    write_gallery(str(tmp_path / "page.html"), corpus, hits_schema().empty_table(), ["cup"])
    assert "cannot be read" not in (tmp_path / "page.html").read_text()
    assert job("verify", ["--corpus", packed.uri]) == 0  # the contract has the key
    shapes: list[tuple[int, ...]] = []
    images = labelled_images(corpus, Budget(), None, None, Counts())
    speed_figures(images, 1, lambda pixels: shapes.append(pixels.shape))
    assert shapes and set(shapes) <= {(row["height"], row["width"], 3) for row in packed.images}


def test_the_page_knows_the_column(packed: MadeCorpus) -> None:
    testclient = pytest.importorskip("fastapi.testclient")
    from fastsam_batch.web.app import make_app

    with testclient.TestClient(make_app(Corpus.open(packed.uri)), base_url="http://localhost") as client:
        answer = client.get("/api/thumbnail", params={"image": NAME})
        assert answer.status_code == 200, answer.text
        assert Image.open(io.BytesIO(answer.content)).format == "JPEG"


def test_the_limit_is_the_corpuss(packed: MadeCorpus) -> None:
    change(packed, options={"max_pixels": 1000})
    with pytest.raises(InputError, match="are more than the 1000 allowed"):
        Corpus.open(packed.uri).image(NAME).pixels()


def test_a_photograph_above_pillows_limit_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    side = 14_000  # more than twice Pillow's limit
    Image.new("1", (side, side)).save(path)
    image = ExportImage("large.png", str(path), side, side, ())
    with Folder(str(tmp_path / "out")) as folder:
        assert folder.copy_photograph(image, "a") == "a.png"
    assert (tmp_path / "out" / "a.png").read_bytes() == path.read_bytes()
    path.write_bytes(b"GIF89a")
    with pytest.raises(InputError, match="cannot copy the photograph"):
        Folder(str(tmp_path / "other")).copy_photograph(image, "a")


def test_the_column_is_kept_without_another_fingerprint(tmp_path: Path) -> None:
    options = SegmentOptions(input="x", output="y", embedder="none", bytes_column="jpg")
    info, *_ = _describe(options)
    assert info.bytes_column == "jpg"
    plain = describe(info.input, info.options, info.models, None)
    assert plain.fingerprint == info.fingerprint
    for name, each in (("a", info), ("b", plain)):
        write_info(str(tmp_path / name), each)
        assert read_info(str(tmp_path / name)) == each
    assert "bytes_column" not in json.loads((tmp_path / "b" / "corpus.json").read_text())
    assert Corpus.open(str(tmp_path / "a")).photographs.bytes_column == "jpg"
    # Another embedding reads the same column, unless it is told another.
    assert _options(info, {"output": "z", "bytes_column": None}).bytes_column == "jpg"
    assert _options(info, {"output": "z", "bytes_column": "png"}).bytes_column == "png"


def test_an_outage_of_a_photograph_s_store_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object) -> bytes:
        raise OutageError("503 SlowDown")

    image = ExportImage("a.png", "s3://photographs/a.png", 8, 8, ())
    monkeypatch.setattr(ExportImage, "data", silent)
    with pytest.raises(OutageError, match=r"photograph of 'a.png', s3://photographs/a.png: 503 SlowDown"):
        Folder(str(tmp_path / "out")).copy_photograph(image, "a")
    row = {"image_id": "a.png", "uri": "s3://photographs/a.png", "height": 8, "width": 8}
    with pytest.raises(OutageError, match=r"photograph of 'a.png' at s3://photographs/a.png cannot be read: 503"):
        read_photograph(row, silent)
