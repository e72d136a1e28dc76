"""Shards on a web server: what it fails to say about them is no result."""

from __future__ import annotations

import http.server
from functools import partial

import pytest
from servers import web_server
from sources.made_inputs import plan, small_images, units, write_parquet, write_tar

from fastsam_batch.corpus.info import read_info
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.sources import open_source


class Moody(http.server.SimpleHTTPRequestHandler):
    status = 0

    def send_head(self):
        return self.send_error(self.status) if self.status else super().send_head()

    def log_message(self, *_):
        pass


@pytest.fixture
def moody(tmp_path, monkeypatch):
    """Its address, which says what is in the folder, or `Moody.status` alone."""
    monkeypatch.setattr(Moody, "status", 0)
    with web_server(partial(Moody, directory=str(tmp_path))) as address:
        yield address


@pytest.mark.parametrize(
    ("status", "query", "is_answer"),
    [(500, "", False), (429, "", False), (403, "?X-Signature=secret", False), (404, "", True), (403, "", True)],
)
@pytest.mark.parametrize("name", ["s.tar", "s.parquet"])
def test_a_web_server_that_fails_tells_nothing_of_a_shard(tmp_path, moody, monkeypatch, name, status, query, is_answer):
    write_tar(tmp_path / "s.tar", small_images(3).items())
    write_parquet(tmp_path / "s.parquet", {"bytes": list(small_images(3).values())})
    source = open_source(f"{moody}/{name}{query}")
    rows = plan(source)
    undisturbed = units(source, rows)
    monkeypatch.setattr(Moody, "status", status)
    if is_answer:
        (unit,) = units(source, rows)
        assert {image.error_kind for image in unit.images} <= {"broken_shard", "missing"}
        return
    with pytest.raises(OutageError, match=rf"{name}.* {status}|{name} was refused .*{status}.* sign it anew") as told:
        units(source, rows)
    assert "secret" not in str(told.value)
    monkeypatch.setattr(Moody, "status", 0)
    assert units(source, rows) == undisturbed


def test_an_input_whose_signature_has_expired_is_told(moody, monkeypatch):
    monkeypatch.setattr(Moody, "status", 403)
    with pytest.raises(InputError, match=r"s\.tar was refused \(403.* may have expired; sign it anew$") as told:
        open_source(f"{moody}/s.tar?X-Signature=secret")
    assert "secret" not in str(told.value)


def test_a_web_server_that_is_down_holds_a_corpus_or_not():
    with pytest.raises(OutageError, match=r"^http://127\.0\.0\.1:9/c/corpus\.json: Cannot connect") as told:
        read_info("http://user:pass@secret@127.0.0.1:9/c")
    assert "secret" not in str(told.value)
