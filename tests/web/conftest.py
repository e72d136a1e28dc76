"""The page over a made corpus: as a test client, as a server, and in a real Chromium."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus.made_corpus import DIM, MadeCorpus

from fastsam_batch import Corpus
from fastsam_batch.search.background import Background, background_texts
from fastsam_batch.search.texts import text_vectors

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def encode(sentences: Sequence[str]) -> np.ndarray:
    vectors = [np.random.default_rng(list(sentence.encode())).normal(size=DIM) for sentence in sentences]
    return np.asarray([vector / np.linalg.norm(vector) for vector in vectors], np.float32)


def one_background() -> Background:
    """Background texts that all say "nothing": a mask that is clearly less like that convinces."""
    return Background(np.repeat(text_vectors(["nothing"], encode), len(background_texts()), axis=0))


@pytest.fixture(scope="session")
def client(made_once: MadeCorpus):
    from fastapi.testclient import TestClient

    from fastsam_batch.web.app import make_app

    app = make_app(Corpus.open(made_once.uri), encode=encode, background=one_background())
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def serve_app() -> Iterator[Callable[[Any], str]]:
    """Serves an app from a thread until the tests end; gives its address."""
    import uvicorn

    servers = []

    def serve(app) -> str:
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        servers.append((server, thread))
        deadline = time.monotonic() + 30
        while not server.started:
            assert thread.is_alive() and time.monotonic() < deadline
            time.sleep(0.02)
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield serve
    for server, thread in servers:
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="session")
def served(made_once: MadeCorpus, serve_app) -> str:
    """The address of the page over the made corpus."""
    from fastsam_batch.web.app import make_app

    return serve_app(make_app(Corpus.open(made_once.uri), encode=encode, background=one_background()))


@pytest.fixture(scope="session")
def browser():
    if not CHROMIUM.is_file():
        pytest.skip(f"there is no {CHROMIUM}: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, served: str):
    """Opens the page at an address below the server; at the end nothing may have gone wrong in it."""
    contexts, wrong = [], []

    def open_at(path: str = "/", **options):
        options.setdefault("viewport", {"width": 1280, "height": 800})
        host = options.setdefault("base_url", served)
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: wrong.append(request.url) if is_foreign(request.url, host) else None)
        page.goto(path)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert not wrong


def is_foreign(url: str, host: str) -> bool:
    return not url.startswith((f"{host}/", f"blob:{host}/"))
