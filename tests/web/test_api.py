"""What the page asks its server: answers, pictures, refusals as sentences, headers."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from corpus.made_corpus import MadeCorpus
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO
from reference.search import best_masks
from web.conftest import encode, one_background

from fastsam_batch.search.texts import text_vectors
from fastsam_batch.web.answers import failure, without_place

IMAGE = "astronaut.png"


def rows_of(made: MadeCorpus, image_id: str) -> list[dict]:
    return [row for row in made.masks if row["image_id"] == image_id]


def test_the_corpus_and_its_photographs_page_by_page(client, made_once: MadeCorpus) -> None:
    corpus = client.get("/api/corpus").json()
    assert (corpus["images"], corpus["failed"], corpus["masks"]) == (7, 1, len(made_once.masks))
    assert corpus["name"] == "corpus" and corpus["searchable"]
    ids = []
    for offset in range(0, 9, 2):
        page = client.get("/api/images", params={"offset": offset, "limit": 2}).json()
        assert page["total"] == 7
        ids += [row["image_id"] for row in page["images"]]
    assert ids == [row["image_id"] for row in made_once.images]
    failed = next(row for row in client.get("/api/images").json()["images"] if row["status"] == "failed")
    assert failed["error_message"] == "the bytes are no image"


def test_a_search_that_nobody_waits_for_ends(made_once: MadeCorpus, serve_app, monkeypatch) -> None:
    from fastsam_batch import Corpus
    from fastsam_batch.web.app import make_app

    corpus = Corpus.open(made_once.uri)
    server = urllib.parse.urlsplit(serve_app(make_app(corpus, encode=encode, background=one_background())))
    blocks: list[str] = []
    left = threading.Event()
    real = Corpus.vector_blocks

    def slow(self, unit_id, *arguments):
        for block in real(self, unit_id, *arguments):
            blocks.append(unit_id)
            if len(blocks) == 1:
                assert left.wait(60)
                time.sleep(1)  # the server looks more often whether its client is there
            yield block

    monkeypatch.setattr(Corpus, "vector_blocks", slow)
    monkeypatch.setattr("fastsam_batch.search.scan.available_cores", lambda: 1)
    for path in ("/api/search?q=a+cup", f"/api/like?image={IMAGE}&mask=0"):
        blocks.clear()
        left.clear()
        with socket.create_connection((server.hostname, server.port)) as browser:
            browser.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            while not blocks:
                time.sleep(0.02)
        left.set()
        assert json.load(urllib.request.urlopen(f"{server.geturl()}/api/search?q=a+cup", timeout=60))["hits"]
        after = len(blocks)
        assert json.load(urllib.request.urlopen(f"{server.geturl()}/api/search?q=a+cup", timeout=60))["hits"]
        whole = len(blocks) - after
        assert whole > 1 and after == 1 + whole


def test_search_is_find_masks_with_the_form_s_filters(client, made_once: MadeCorpus) -> None:
    asked = {"q": "a cup", "top_k": 4, "min_area": 500, "max_area": 20_000, "where": "score > 0.65 or stability > 0.8"}
    asked["min_calibrated"] = 0
    hits = client.get("/api/search", params=asked).json()["hits"]
    kept = [row for row in made_once.masks if row["score"] > 0.65 or row["stability"] > 0.8]
    rows = [row for row in kept if 500 <= row["area"] <= 20_000]
    expected = best_masks(rows, text_vectors(["a cup"], encode)[0], 4)
    assert [(hit["image_id"], hit["mask_index"]) for hit in hits] == [key[1:] for key in expected]
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4]
    size = next(row for row in made_once.images if row["image_id"] == hits[0]["image_id"])
    assert hits[0]["size"] == [size["width"], size["height"]] and "rle" not in hits[0] and "uri" not in hits[0]
    assert client.get("/api/search", params={"q": "a cup", "min_score": 0.99}).json() == {"hits": []}


def test_contrasts_masks_an_image_and_near_duplicates_reach_the_search(client, made_once: MadeCorpus) -> None:
    from fastsam_batch import Corpus

    options = {"contrasts": ["a cat", "a dog"], "per_image": 2, "distinct": 0.3, "encode": encode, "top_k": 60}
    options |= {"background": one_background(), "min_calibrated": 0.9}
    expected = Corpus.open(made_once.uri).search("a cup|a mug", **options).select(["image_id", "mask_index"])
    asked = {"q": "a cup|a mug", "not": "a cat|a dog", "per_image": 2, "distinct": 0.3, "min_calibrated": 0.9}
    hits = client.get("/api/search", params=asked).json()["hits"]
    assert [{name: hit[name] for name in expected.column_names} for hit in hits] == expected.to_pylist()
    assert 0 < len(hits) <= 10


def test_more_like_a_mask(client, made_once: MadeCorpus) -> None:
    row = rows_of(made_once, IMAGE)[2]
    hits = client.get("/api/like", params={"image": IMAGE, "mask": 2, "top_k": 5}).json()["hits"]
    expected = best_masks(made_once.masks, np.asarray(row["embedding"], np.float32), 6)
    assert [(hit["image_id"], hit["mask_index"]) for hit in hits] == [key[1:] for key in expected][1:]
    refused = client.get("/api/like", params={"image": IMAGE, "mask": 1})
    assert refused.status_code == 400 and "too small" in refused.json()["error"]


def test_an_image_has_outlines_that_fill_to_its_masks(client, made_once: MadeCorpus) -> None:
    from matplotlib import path as outlines

    image = client.get("/api/image", params={"image": IMAGE}).json()
    areas = [row["area"] for row in rows_of(made_once, IMAGE)]
    assert [mask["area"] for mask in image["masks"]] == sorted(areas, reverse=True)
    y, x = np.mgrid[: image["height"], : image["width"]] + 0.5
    points = np.stack([x, y], -1).reshape(-1, 2)
    for mask in image["masks"][::2]:
        row = rows_of(made_once, IMAGE)[mask["mask_index"]]
        written = [ring.rstrip("Z").split("L") for ring in mask["path"].split("M")[1:]]
        rings = [np.array([point.split(",") for point in ring], float) for ring in written]
        inside = np.sum([outlines.Path(ring).contains_points(points) for ring in rings], 0).reshape(y.shape) % 2
        dense = coco.decode(row["rle"])
        edge = np.hypot(*np.gradient(dense.astype(float))) > 0
        assert ((inside != dense) & ~edge).sum() == 0
        assert mask["colour"].startswith("#") and mask["bbox"] == row["bbox"]


def test_points_boxes_and_words_select(client, made_once: MadeCorpus) -> None:
    prompts = ["add:200,200", "not:10,10", "box:40,50,200,210", "text:a cup"]
    answer = client.get("/api/select", params={"image": IMAGE, "prompt": prompts}).json()
    document = client.get("/api/selection.json", params={"image": IMAGE, "prompt": prompts})
    assert document.headers["content-disposition"] == 'attachment; filename="selection.json"'
    assert document.json()["mask_indices"] == answer["mask_indices"]
    assert answer["area"] == coco.area(document.json()["rle"])
    assert answer["path"].startswith("M") and answer["boxes"][0]["box"] == [40, 50, 200, 210]
    assert answer["texts"][0]["text"] == "a cup"
    picture = client.get("/api/selection.png", params={"image": IMAGE, "prompt": prompts})
    assert Image.open(io.BytesIO(picture.content)).size == (800, 800)


def test_pictures_are_jpegs_of_bounded_size(client) -> None:
    for path, size in (("thumbnail", (400, 267)), ("photograph", (400, 267)), ("card", (512, 384))):
        asked = {"image": "rocket.png", "mask": 0}
        kept = client.get(f"/api/{path}", params=asked | {"v": client.get("/api/corpus").json()["version"]})
        assert "private, max-age" in kept.headers["cache-control"]
        answer = client.get(f"/api/{path}", params=asked | {"v": "that of another corpus"})
        assert answer.headers["content-type"] == "image/jpeg" and answer.headers["cache-control"] == "no-store"
        assert Image.open(io.BytesIO(answer.content)).size == size


def test_picked_masks_are_coco_instances(client, made_once: MadeCorpus, tmp_path) -> None:
    picks = [
        {"image_id": IMAGE, "mask_index": 3, "label": "a cup"},
        {"image_id": "rocket.png", "mask_index": 0, "label": "a rocket"},
        {"image_id": IMAGE, "mask_index": 0, "label": "a cup"},
        {"image_id": IMAGE, "mask_index": 3, "label": "a cup"},
    ]
    answer = client.post("/api/export", json={"masks": picks})
    assert answer.headers["content-disposition"] == 'attachment; filename="picked.coco.json"'
    (tmp_path / "picked.json").write_bytes(answer.content)
    loaded = COCO(str(tmp_path / "picked.json"))
    assert [category["name"] for category in loaded.loadCats(loaded.getCatIds())] == ["a cup", "a rocket"]
    assert sorted(image["file_name"] for image in loaded.imgs.values()) == [IMAGE, "rocket.png"]
    assert len(loaded.anns) == 3 and answer.headers["x-left-out"] == "0"
    assert str(Path(made_once.uri).parent) not in answer.text and not any(
        "uri" in image for image in loaded.imgs.values()
    )
    unknown = [{"image_id": "gone.png", "mask_index": 0}, {"image_id": IMAGE, "mask_index": 99}]
    rest = client.post("/api/export", json={"masks": picks + unknown})
    assert rest.content == answer.content and rest.headers["x-left-out"] == "2"
    for annotation in loaded.anns.values():
        name = loaded.imgs[annotation["image_id"]]["file_name"]
        row = rows_of(made_once, name)[annotation["mask_index"]]
        np.testing.assert_array_equal(loaded.annToMask(annotation), coco.decode(row["rle"]))


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/api/search", 422, "Find masks: field required"),
        ("/api/search?q=", 422, "Find masks: "),
        ("/api/search?q=%20", 400, "is empty"),
        ("/api/search?q=a&top_k=0", 422, "At most: "),
        ("/api/search?q=a&top_k=many", 422, "At most: "),
        ("/api/search?q=a&min_score=nan", 422, "Least cosine: "),
        ("/api/search?q=a&where=aria%20%3E%203", 400, "there is no column aria"),
        ("/api/search?q=a&where=area%20%3E", 400, "expected a"),
        ("/api/search?q=a&where=score%20%3E=%200)%20or%20(score%20%3C%200&min_area=9", 400, "or the end, found )"),
        ("/api/like?image=astronaut.png&mask=99", 400, "holds no mask 99"),
        ("/api/image?image=nothing.png", 400, "holds no image 'nothing.png'"),
        ("/api/thumbnail?image=../../../etc/passwd", 400, "holds no image"),
        ("/api/photograph?image=/etc/passwd", 400, "holds no image"),
        ("/api/thumbnail?image=broken.png", 400, "failed when it was segmented"),
        ("/api/select?image=astronaut.png&prompt=add:900,1", 400, "outside the image"),
        ("/api/select?image=astronaut.png&prompt=circle:1,1", 400, "none of add:x,y"),
        ("/api/select?image=astronaut.png&prompt=box:1,2", 400, "write x1,y1,x2,y2"),
        ("/api/select?image=astronaut.png", 422, "prompt: field required"),
        ("/api/nothing", 404, "not found"),
        ("/static/..%2f..%2fcli.py", 404, "not found"),
        ("/static/nothing.js", 404, "not found"),
    ],
)
def test_bad_requests_are_json_sentences(client, path: str, status: int, sentence: str) -> None:
    answer = client.get(path)
    assert answer.status_code == status and list(answer.json()) == ["error"]
    assert sentence in answer.json()["error"] and "\n" not in answer.text and "Traceback" not in answer.text
    assert "/corpus" not in answer.text  # nor where it lies


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"{", "the request: JSON"),
        (json.dumps({"masks": []}).encode(), "masks: "),
        (json.dumps({"masks": [{"image_id": "x", "mask_index": -1}]}).encode(), "mask_index: "),
        (json.dumps({"masks": [{"image_id": "nothing.png", "mask_index": 0}]}).encode(), "none of the picked masks"),
        (json.dumps({"masks": [{"image_id": "x", "mask_index": 0}] * 10_001}).encode(), "masks: "),
    ],
)
def test_a_bad_export_is_refused(client, body: bytes, sentence: str) -> None:
    answer = client.post("/api/export", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422) and sentence in answer.json()["error"]


def test_a_photograph_that_is_gone_says_so(made: MadeCorpus, tmp_path) -> None:
    from fastapi.testclient import TestClient

    from fastsam_batch import Corpus
    from fastsam_batch.images import ImageError
    from fastsam_batch.web.app import make_app

    def read(uri: str) -> np.ndarray:
        if uri.endswith(IMAGE):
            raise FileNotFoundError(uri)
        raise ImageError("corrupt", "broken data stream")

    with TestClient(make_app(Corpus.open(made.uri), read=read), base_url="http://localhost") as client:
        gone = client.get("/api/thumbnail", params={"image": IMAGE})
        assert "max-age=10" in gone.headers["cache-control"]  # asked for twice: as a picture, and why there is none
        assert gone.json()["error"] == f"the photograph of '{IMAGE}' is no longer where it was; put it back to see it"
        lit = client.get("/api/selection.png", params={"image": IMAGE, "prompt": ["add:200,200"]})
        assert lit.status_code == 400 and lit.json() == gone.json()
        assert (
            "broken data stream" in client.get("/api/card", params={"image": "rocket.png", "mask": 0}).json()["error"]
        )
        assert len(client.get("/api/image", params={"image": IMAGE}).json()["masks"]) == 6  # without the photograph
        refused = client.get("/api/search", params={"q": "a cup"})
        assert refused.status_code == 400 and "no embeddings" in refused.json()["error"]


def test_a_store_that_does_not_answer_is_a_sentence(made: MadeCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient

    from fastsam_batch import Corpus
    from fastsam_batch.errors import OutageError
    from fastsam_batch.web.app import make_app

    corpus = Corpus.open(made.uri)

    def cut(*_) -> None:
        raise OutageError(f"cannot read masks/a.parquet of the corpus {made.uri}: connect timeout")

    monkeypatch.setattr(corpus, "vector_blocks", cut)
    app = make_app(corpus, encode=encode, background=one_background())
    with TestClient(app, base_url="http://localhost") as client:
        answer = client.get("/api/search", params={"q": "a cup"})
    assert answer.status_code == 503
    assert answer.json()["error"] == "cannot read masks/a.parquet of the corpus corpus: connect timeout; try again"


def test_a_sentence_on_a_corpus_does_not_say_where_it_is(made: MadeCorpus, monkeypatch) -> None:
    from fastsam_batch import Corpus

    place = Path(made.uri)
    monkeypatch.chdir(place.parent)
    for uri in (made.uri, place.name, f"./{place.name}", f"../{place.parent.name}/{place.name}"):
        sentence = f"cannot read masks/a.parquet of the corpus {uri}: no file {place}/masks/a.parquet"
        said = without_place(sentence, Corpus.open(uri))
        assert said == "cannot read masks/a.parquet of the corpus corpus: no file corpus/masks/a.parquet"


def test_why_an_image_failed_is_told_without_its_folder() -> None:
    row = {"image_id": "a.png", "uri": "/in/secret/a.png", "error_message": "/in/secret/a.png does not exist"}
    assert failure(row) == "a.png does not exist"
    assert failure({**row, "error_message": None}) is None


def test_the_page_is_of_one_version(client) -> None:
    """A browser that keeps old modules beside a new page would mix two of them."""
    for path in ("/", "/static/main.js"):
        answer = client.get(path)
        assert answer.status_code == 200 and answer.headers["cache-control"] == "no-cache"


def test_every_answer_carries_the_headers_that_keep_the_page_safe(made_once: MadeCorpus) -> None:
    from fastapi.testclient import TestClient

    from fastsam_batch import Corpus
    from fastsam_batch.web.app import make_app

    app = make_app(Corpus.open(made_once.uri), read=lambda uri: {}[uri])  # a failure that no one foresaw
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    paths = {"/": 200, "/static/main.js": 200, "/api/corpus": 200, "/api/nothing": 404}
    for path, status in {**paths, "/api/thumbnail?image=rocket.png": 500}.items():
        answer = client.get(path)
        assert answer.status_code == status
        headers = answer.headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
