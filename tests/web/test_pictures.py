"""Many pictures at once: each made once, in bounded memory."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from web.many import many_photographs

from fastsam_batch import Corpus
from fastsam_batch.web.cache import BoundedCache


def test_a_value_is_made_once_for_all_who_wait(tmp_path) -> None:
    cache: BoundedCache[bytes] = BoundedCache(1000, len)
    made, all_ask = [], threading.Barrier(8)

    def make() -> bytes:
        made.append(1)
        return b"x" * 10

    def ask(_: int) -> bytes:
        all_ask.wait()
        return cache.get("key", make)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {b"x" * 10}
    assert len(made) == 1


def test_the_least_recently_used_go_first_and_failures_are_not_kept() -> None:
    cache: BoundedCache[bytes] = BoundedCache(100, len)
    for name in "abc":
        cache.get(name, lambda: b"x" * 40)
        cache.get("a", lambda: b"anew")
    assert (len(cache), cache.bytes) == (2, 80)
    assert cache.get("a", lambda: b"anew") == b"x" * 40 and cache.get("b", lambda: b"anew") == b"anew"
    with pytest.raises(OSError, match="gone"):
        cache.get("d", lambda: (_ for _ in ()).throw(OSError("gone")))
    assert cache.get("d", lambda: b"back") == b"back"


def test_a_value_larger_than_all_that_fits_is_made_once_for_those_who_ask_in_turn() -> None:
    cache: BoundedCache[bytes] = BoundedCache(100, len)
    cache.get("a", lambda: b"x" * 40)
    cache.get("large", lambda: b"x" * 300)
    assert len(cache.get("large", lambda: b"anew")) == 300  # as cards ask for one photograph of 100 megapixels
    assert (len(cache), cache.bytes) == (1, 300)
    cache.get("b", lambda: b"x" * 40)
    assert (len(cache), cache.bytes) == (1, 40)


@pytest.mark.alone
def test_a_thousand_thumbnails_do_not_stall_the_page(tmp_path: Path, serve_app, open_page) -> None:
    from fastsam_batch.web.app import make_app

    address = serve_app(make_app(Corpus.open(many_photographs(tmp_path, 1000))))
    page = open_page("/", base_url=address)
    page.locator(".photographs img").first.wait_for()
    assert page.locator(".photographs li").count() == 60  # the rest waits until it is near
    deadline = time.monotonic() + 120
    while page.locator(".photographs li").count() < 1000:
        assert time.monotonic() < deadline
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        slowest = page.evaluate(
            """async () => {
              const began = performance.now();
              await (await fetch('/api/corpus')).json();
              return performance.now() - began;
            }"""
        )
        assert slowest < 3000  # while thumbnails are on their way
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_function(
        "() => { const all = document.querySelectorAll('.photographs img'); return all[all.length - 1].naturalWidth }"
    )


def test_what_goes_in_does_not_look_at_all_that_is_there() -> None:
    cache: BoundedCache[bytes] = BoundedCache(20_000, len)
    began = time.perf_counter()
    for number in range(21_000):  # the last thousand push out the first
        cache.get(number, lambda: b"x")
    assert len(cache) == cache.bytes == 20_000
    assert time.perf_counter() - began < 10  # a look at each for each took eighty seconds
