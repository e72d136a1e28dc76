"""The page as a running server, until it is told to stop."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.errors import InputError
from fastsam_batch.search.find import corpus_background, corpus_encoder
from fastsam_batch.web.access import check_access


def serve(
    corpus: Corpus,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    embedder: str | None = None,
    started: Callable[[str], None] = lambda url: None,
) -> dict[str, Any]:
    """Serve the page over a corpus until SIGINT or SIGTERM; the summary says where and for how long.

    `port` 0 takes a free one; `started` is called with the address once requests are answered. `embedder` is
    where the corpus's own text encoder is now. Raises InputError where the extra is missing, the port is taken,
    or another host is to be served without a token.
    """
    check_access(host, token)
    try:
        import uvicorn

        from fastsam_batch.web.app import make_app
    except ModuleNotFoundError as error:
        raise InputError(
            f"the search page needs {error.name}, which is not installed; pip install 'fastsam-batch[web]'"
        ) from error
    with _listening(host, port) as listener:
        encode = background = None
        if corpus.embedding_dim is not None:
            encode = corpus_encoder(corpus, embedder)
            background = corpus_background(corpus, encode)
        # No access log: it would write down ?token=.
        config = uvicorn.Config(
            make_app(corpus, encode=encode, background=background, token=token),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=3,
        )
        server = uvicorn.Server(config)
        address = _address(host, listener.getsockname()[1])
        began = time.perf_counter()
        started(address)  # connections wait in the socket's queue from here on
        with _signals_left_to_the_server():
            server.run(sockets=[listener])
    requests = server.server_state.total_requests
    return {"url": address, "requests": requests, "seconds": round(time.perf_counter() - began, 3)}


def _listening(host: str, port: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise InputError(f"--port {port}: a port is at most {2**16 - 1}; 0 takes a free one")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(128)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}, port {port} ({error.strerror or error}); name another --port"
        ) from error
    return listener


def _address(host: str, port: int) -> str:
    bare = host.strip("[]")
    return f"http://{f'[{bare}]' if ':' in bare else bare}:{port}/"


@contextmanager
def _signals_left_to_the_server() -> Iterator[None]:
    """uvicorn stops at a signal and then raises it again; the second time it must not end the process."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
