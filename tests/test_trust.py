"""What must never happen to a corpus: a store's outage as a result, one bad unit that stops the others, two writers."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from poison import CRASH, HANG, RAISE
from safetensors import safe_open
from safetensors.torch import save_file
from servers import web_server
from sources.made_inputs import write_tar
from warm import AGENTS_ENVIRONMENT, with_interpreter

from fastsam_batch import run as run_module
from fastsam_batch.config import segment_options
from fastsam_batch.corpus.lease import Lease
from fastsam_batch.corpus.plan import read_plans
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.verify import verify_corpus
from fastsam_batch.errors import InputError
from fastsam_batch.models.pair import load_models
from fastsam_batch.models.weights import BUILTIN_FOLDER
from fastsam_batch.run import segment_corpus
from fastsam_batch.sources.base import EncodedImage, UnitBytes
from fastsam_batch.unit import UnitOptions, process_unit

ROOT = Path(__file__).parents[1]
CHEAP = {"imgsz": 64, "embedder": "none"}


def run(source, output, **options):
    return segment_corpus(segment_options({"input": str(source), "output": str(output), **CHEAP, **options}))


def job(forked_python, *arguments, **environment):
    command = [*with_interpreter(forked_python, ROOT / "jobs" / "segment_corpus.py"), *map(str, arguments)]
    command += ["--imgsz", "64", "--embedder", "none"]
    return subprocess.Popen(
        command,
        env={**os.environ, **AGENTS_ENVIRONMENT, "RAY_ADDRESS": "local", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def content(corpus_uri):
    """All rows that must be equal between runs, in order."""
    corpus = Corpus.open(str(corpus_uri))
    images, masks = corpus.images(), corpus.masks()
    return (
        images.select(["image_id", "status", "error_kind", "n_masks", "sha256"]).sort_by("image_id").to_pylist(),
        masks.sort_by([("image_id", "ascending"), ("mask_index", "ascending")]).to_pylist(),
    )


def tiny_images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        rng = np.random.default_rng(number)
        pixels = np.full((48, 64, 3), 30, np.uint8)
        for _ in range(4):
            y, x = rng.integers(0, 36), rng.integers(0, 48)
            pixels[y : y + 12, x : x + 14] = rng.integers(90, 255, 3)
        Image.fromarray(pixels).save(folder / name)


@pytest.mark.timeout(500)
def test_poison_ends_as_rows_and_a_unit_that_raises_is_left_for_the_next_run(local_ray, forked_python, tmp_path):
    names = [f"{number:02d}.png" for number in range(12)]
    tiny_images(tmp_path / "photos", names)
    bad = {"01.png": CRASH, "05.png": HANG, "06.png": CRASH, "10.png": RAISE}
    for name, data in bad.items():
        (tmp_path / "photos" / name).write_bytes(data)
    arguments = ["--input", tmp_path / "photos", "--output", tmp_path / "corpus", "--unit-size", 4]
    poisoned = job(
        forked_python,
        *arguments,
        "--decode-seconds",
        4,
        FASTSAM_BATCH_DECODER="poison:decode",
        PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    )
    out, err = poisoned.communicate(timeout=250)
    assert poisoned.returncode == 3, err
    summary = json.loads(out.splitlines()[-1])
    assert (summary["units"], summary["images"], summary["unfinished_units"]) == (2, 8, 1)
    assert summary["failures"] == {"crashed": 2, "timeout": 1}
    (left,) = summary["unfinished"]
    assert left == {
        "unit_id": "files-000000008",
        "shard": "",
        "stage": "segment",
        "reason": "RuntimeError: this decoder has a bug",
    }
    assert "unfinished: unit files-000000008, segment: RuntimeError: this decoder has a bug" in err
    images = {row["image_id"]: row for row in Corpus.open(str(tmp_path / "corpus")).images().to_pylist()}
    assert {name: row["error_kind"] for name, row in images.items()} == {
        **dict.fromkeys(names[:8]), "01.png": "crashed", "05.png": "timeout", "06.png": "crashed",
    }  # fmt: skip

    healed = run(tmp_path / "photos", tmp_path / "corpus", unit_size=4)
    assert (healed["units"], healed["skipped_units"], healed["unfinished_units"]) == (1, 2, 0)
    assert verify_corpus(str(tmp_path / "corpus")).ok
    assert content(tmp_path / "corpus")[1] == alone(tmp_path / "photos", set(names) - set(bad))


def alone(folder, names):
    """The masks of images as processing them without Ray gives them."""
    models = load_models({"path": "builtin", "imgsz": 64}, None, "cpu", None)
    images = tuple(EncodedImage(name, name, (folder / name).read_bytes()) for name in sorted(names))
    rows = process_unit(UnitBytes("u", "", False, images), *models, UnitOptions()).masks.to_pylist()
    assert rows
    return rows


class Web(http.server.SimpleHTTPRequestHandler):
    """The folder over HTTP, and one kind of trouble at a time for some of its files."""

    trouble: ClassVar[dict[str, str]] = {}

    def do_GET(self):
        kind = self.trouble.get(self.path.rpartition("/")[2])
        if kind == "503":
            self.send_error(503, "Slow Down")
        elif kind == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            self.wfile.write(b"\x89PNG\r\n\x1a\n")
        elif kind == "410":
            self.send_error(410)
        else:
            super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def web(tmp_path):
    (tmp_path / "web").mkdir()
    with web_server(partial(Web, directory=str(tmp_path / "web"))) as address:
        Web.trouble.clear()
        yield tmp_path / "web", address


def test_an_outage_is_no_result_and_a_rerun_heals_it(local_ray, tmp_path, web):
    folder, address = web
    names = [f"{number}.png" for number in range(8)]
    tiny_images(folder, names)
    manifest = tmp_path / "list.csv"
    manifest.write_text("uri,image_id\n" + "".join(f"{address}/{name},{name}\n" for name in names))
    Web.trouble.update({"2.png": "503", "5.png": "cut", "7.png": "410"})
    disturbed = run(manifest, tmp_path / "corpus", unit_size=2)
    assert (disturbed["units"], disturbed["images"]) == (2, 4)
    assert disturbed["failures"] == {"unreadable": 1}  # gone for good: that is an answer
    assert disturbed["unfinished_units"] == 2
    reasons = sorted((unit["stage"], unit["reason"]) for unit in disturbed["unfinished"])
    assert [stage for stage, _ in reasons] == ["fetch", "fetch"]
    assert "2.png" in reasons[0][1] and "503" in reasons[0][1]
    assert "5.png" in reasons[1][1]
    Web.trouble["5.png"] = "200"
    half = run(manifest, tmp_path / "corpus", unit_size=2, record_unreachable=True)
    assert (half["units"], half["failures"], half["unfinished_units"]) == (2, {"unreachable": 1}, 0)
    assert verify_corpus(str(tmp_path / "corpus")).ok

    Web.trouble["2.png"] = "200"
    healed = run(manifest, tmp_path / "again", unit_size=2)
    assert (healed["failures"], healed["unfinished_units"]) == ({"unreadable": 1}, 0)
    images, masks = content(tmp_path / "corpus")
    expected_images, expected_masks = content(tmp_path / "again")
    assert [row for row in images if row["image_id"] != "2.png"] == [
        row for row in expected_images if row["image_id"] != "2.png"
    ]
    assert masks == [row for row in expected_masks if row["image_id"] != "2.png"]


def test_signatures_of_a_manifest_are_not_stored_and_a_rerun_takes_fresh_ones(local_ray, tmp_path, web):
    folder, address = web
    names = [f"{number}.png" for number in range(4)]
    tiny_images(folder, names)
    manifest, corpus = tmp_path / "list.csv", tmp_path / "corpus"

    def sign(signature):
        manifest.write_text("uri\n" + "".join(f"{address}/{name}?sig={signature}\n" for name in names))

    sign("old")
    Web.trouble.update({"3.png?sig=old": "503", "2.png": "410", "3.png": "410"})  # unsigned, they are refused
    first = run(manifest, corpus, unit_size=2)
    assert (first["units"], first["failures"], first["unfinished_units"]) == (1, {}, 1)
    sign("new")
    healed = run(manifest, corpus, unit_size=2)
    assert (healed["units"], healed["skipped_units"], healed["images"], healed["failures"]) == (1, 1, 2, {})
    rows, plans = read_plans(str(corpus))
    assert plans == 1 and "sig" not in str([first, rows, Corpus.open(str(corpus)).images().to_pylist()])
    assert sorted(Corpus.open(str(corpus)).images()["image_id"].to_pylist()) == [f"{address}/{name}" for name in names]


def test_a_second_job_on_an_output_stops_and_writes_nothing(local_ray, tmp_path):
    tiny_images(tmp_path / "photos", ["0.png", "1.png"])
    corpus = tmp_path / "corpus"
    first = Lease(str(corpus), beat_s=0.2)
    first.acquire()
    with pytest.raises(InputError, match=rf"another job writes to {corpus} \(process {os.getpid()} .*: wait until"):
        run(tmp_path / "photos", corpus)
    written = [path.name for path in corpus.iterdir() if not path.name.startswith(".lease.json.")]  # as it is renewed
    assert written == ["lease.json"]
    first.release()
    assert run(tmp_path / "photos", corpus)["images"] == 2
    assert sorted(path.name for path in corpus.iterdir()) == sorted(
        ["attempts", "corpus.json", "images", "masks", "plan", "receipts"]
    )


def test_a_node_with_other_weights_ends_the_job_in_one_sentence(local_ray, tmp_path, monkeypatch):
    weights = tmp_path / "segmenter.safetensors"
    shutil.copy(BUILTIN_FOLDER / "segmenter.safetensors", weights)
    describe = run_module._describe

    def then_changed(options):
        described = describe(options)
        with safe_open(weights, "pt") as file:
            about = file.metadata()
            tensors = {name: file.get_tensor(name) * 2 for name in file.keys()}  # noqa: SIM118 (no dict)
        save_file(tensors, weights, about)
        return described

    monkeypatch.setattr(run_module, "_describe", then_changed)
    tiny_images(tmp_path / "photos", ["a.png"])
    with pytest.raises(InputError, match=r"is not the file that the corpus is made with; put the same file on every"):
        run(tmp_path / "photos", tmp_path / "corpus", segmenter=str(weights))
    assert not list((tmp_path / "corpus").glob("receipts/*"))


def test_a_unit_that_raises_takes_no_attempt_of_its_neighbours_in_a_shard(forked_python, tmp_path):
    tiny_images(tmp_path / "photos", ["0.png", "2.png"])
    good = {name: (tmp_path / "photos" / name).read_bytes() for name in ("0.png", "2.png")}
    write_tar(tmp_path / "s.tar", [("0.png", good["0.png"]), ("1.png", RAISE), ("2.png", good["2.png"])])
    poisoned = job(
        forked_python,
        *["--input", tmp_path / "s.tar", "--output", tmp_path / "corpus", "--unit-size", 1],
        FASTSAM_BATCH_DECODER="poison:decode",
        PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
    )
    out, err = poisoned.communicate(timeout=250)
    assert poisoned.returncode == 3, err
    summary = json.loads(out.splitlines()[-1])
    assert (summary["units"], summary["unfinished_units"]) == (2, 1)
    assert summary["unfinished"][0]["reason"] == "RuntimeError: this decoder has a bug"
    receipts = Corpus.open(str(tmp_path / "corpus")).receipts()
    assert [receipt["attempt"] for receipt in receipts.values()] == [1, 1]
