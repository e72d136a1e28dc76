"""Weights fetched from a store: a copy a version, whole or not there, and no secrets of its address told."""

from __future__ import annotations

import http.server
from functools import partial

import pytest
from servers import web_server

from fastsam_batch.errors import InputError
from fastsam_batch.models.weights import anywhere, find_segmenter, local_copy


class Web(http.server.SimpleHTTPRequestHandler):
    """Files, a body that ends too early, and a server that fails."""

    def do_GET(self):
        if not self.path.startswith(("/fails", "/cut")):
            super().do_GET()
            return
        self.do_HEAD()
        if self.path.startswith("/cut"):
            self.wfile.write(b"x" * 10)

    def do_HEAD(self):
        if self.path.startswith("/fails"):
            self.send_error(503)
        elif self.path.startswith("/cut"):
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
        else:
            super().do_HEAD()

    def log_message(self, *_):
        pass


@pytest.fixture
def web(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTSAM_BATCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "web").mkdir()
    with web_server(partial(Web, directory=str(tmp_path / "web"))) as address:
        yield address


def test_a_path_finds_the_same_file_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [anywhere(name) for name in ("builtin", "FastSAM-x", "s3://b/w.pt")] == [
        "builtin",
        "FastSAM-x",
        "s3://b/w.pt",
    ]
    assert anywhere("w.pt") == str(tmp_path / "w.pt")


def test_a_signature_is_in_no_name(tmp_path, web):
    (tmp_path / "web" / "w.safetensors").write_bytes(b"one")
    files = find_segmenter(f"{web}/w.safetensors?sig=SECRET")
    assert files.main.suffix == ".safetensors" and files.main.read_bytes() == b"one"
    assert files.name == f"{web}/w.safetensors"
    assert "SECRET" not in str(files.sha256()) + files.main.name


def test_new_content_at_an_address_is_seen_and_old_is_not_fetched_again(tmp_path, web):
    path = tmp_path / "web" / "w.pt"
    path.write_bytes(b"one")
    first = local_copy(f"{web}/w.pt", "--segmenter")
    first.write_bytes(b"as cached")
    assert local_copy(f"{web}/w.pt", "--segmenter").read_bytes() == b"as cached"
    path.write_bytes(b"three")
    assert local_copy(f"{web}/w.pt", "--segmenter").read_bytes() == b"three"


def test_a_folder_at_an_address_is_told_as_one(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTSAM_BATCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "small_openvino_model").mkdir()
    with pytest.raises(InputError, match=r"small_openvino_model: is a folder; name a file in it, or copy"):
        find_segmenter((tmp_path / "small_openvino_model").as_uri())
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("name", "reason"), [("cut.pt", "cannot be read"), ("fails.pt", "cannot be read"), ("none.pt", "no such object")]
)
def test_a_failed_download_is_a_sentence_and_leaves_nothing(tmp_path, web, name, reason):
    with pytest.raises(InputError, match=reason) as refused:
        local_copy(f"{web}/{name}?sig=SECRET", "--segmenter")
    assert str(refused.value).startswith(f"--segmenter {web}/{name}: ")
    assert "SECRET" not in str(refused.value) and "\n" not in str(refused.value)
    cache = tmp_path / "cache"
    assert not cache.exists() or not list(cache.iterdir())


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "taken").touch()
    (tmp_path / "w.pt").write_bytes(b"one")
    monkeypatch.setenv("FASTSAM_BATCH_CACHE", str(tmp_path / "taken" / "cache"))
    with pytest.raises(InputError, match=r"taken/cache: cannot be made .*name another folder as FASTSAM_BATCH_CACHE"):
        find_segmenter((tmp_path / "w.pt").as_uri())
