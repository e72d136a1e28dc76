"""A corpus that grows, or is made anew, while its page is served."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus.made_corpus import MadeCorpus
from web.conftest import encode, one_background


def test_a_corpus_keeps_its_identity_while_it_grows(made: MadeCorpus) -> None:
    from fastsam_batch import Corpus
    from fastsam_batch.web.catalogue import Catalogue

    before = Catalogue(Corpus.open(made.uri))
    assert before.corpus.count("images") == 7
    path = Path(made.uri, "receipts", "unit-0002.json")
    kept = path.read_text()
    path.unlink()
    smaller = Catalogue(Corpus.open(made.uri))
    assert before.version != smaller.version
    path.write_text(kept)
    info = Path(made.uri, "corpus.json")
    info.write_text(info.read_text().replace("03:04:05", "03:04:06"))
    anew = Catalogue(Corpus.open(made.uri))
    assert before.identity == smaller.identity != anew.identity
    assert anew.version not in (before.version, smaller.version)


def test_a_page_that_is_loaded_again_shows_what_a_job_has_added(
    made: MadeCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastapi.testclient import TestClient

    from fastsam_batch import Corpus
    from fastsam_batch.web.app import make_app

    late = Path(made.uri, "receipts", "unit-0001.json")
    kept = late.read_text()
    late.unlink()
    app = make_app(Corpus.open(made.uri), encode=encode, background=one_background())
    with TestClient(app, base_url="http://localhost") as client:
        before = client.get("/api/corpus").json()
        assert (before["images"], client.get("/api/images").json()["total"]) == (5, 5)
        assert client.get("/api/image", params={"image": "coffee.png"}).status_code == 400
        late.write_text(kept)
        assert client.get("/api/images").json()["total"] == 5  # until the page is loaded again
        real, read = Corpus._receipt, []
        monkeypatch.setattr(Corpus, "_receipt", lambda self, path: read.append(path) or real(self, path))
        after = client.get("/api/corpus").json()
        assert [Path(path).name for path in read] == ["unit-0001.json"]
        assert (after["images"], client.get("/api/images").json()["total"]) == (7, 7)
        assert after["identity"] == before["identity"] and after["version"] != before["version"]
        assert client.get("/api/corpus").json() == after
        assert client.get("/api/image", params={"image": "coffee.png"}).json()["masks"]
        hits = client.get("/api/search", params={"q": "a cup", "top_k": 50}).json()["hits"]
        assert "coffee.png" in {hit["image_id"] for hit in hits}
        info = Path(made.uri, "corpus.json")
        info.write_text(info.read_text().replace("03:04:05", "03:04:06"))
        answer = client.get("/api/corpus")
        assert (answer.status_code, answer.json()["error"]) == (
            400,
            "the corpus corpus was made anew; start its page again",
        )
