"""A proxy in front of an S3 server that fails as asked: errors, cut, silent, shortened and half-done answers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

KINDS = ("500", "503", "reset", "reset-after", "stall", "cut", "short")
STALL_S = 2.0  # longer than the job's read timeout in these tests


@dataclass(frozen=True)
class Trouble:
    """From the `first` request to before the `last`, counted from the run's begin, each fails with `rate`.

    `reset-after` does what was asked and loses the answer, `cut` closes the connection within the body, `short`
    sends less of a body and says that this was all.
    """

    first: int
    last: int
    rate: float
    kinds: tuple[str, ...]


class Proxy:
    """HTTP/1.1 on a port of loopback to another port, in a thread. `requests` counts since `begin`."""

    def __init__(self, target: int) -> None:
        self.requests = 0
        self.faults = 0
        self._target = target
        self._troubles: tuple[Trouble, ...] = ()
        self._rng = random.Random(0)
        self._watch: Callable[[int, int | None], None] = lambda count, port: None
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait(10)

    def begin(self, seed: int, troubles: tuple[Trouble, ...], watch: Callable[[int, int | None], None]) -> None:
        """Count anew. Each request waits for `watch`, which is told its number and the port it came from."""
        self.requests = self.faults = 0
        self._rng, self._troubles, self._watch = random.Random(seed), troubles, watch

    def calm(self) -> None:
        """No more trouble."""
        self._troubles, self._watch = (), lambda count, port: None

    def close(self) -> None:
        """Stop serving."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._server = self._loop.run_until_complete(asyncio.start_server(self._client, "127.0.0.1", 0, limit=2**20))
        self.port = self._server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()

    async def _end(self) -> None:
        """Hang up on all who are still there."""
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _choose(self, number: int) -> str | None:
        for trouble in self._troubles:
            if trouble.first <= number < trouble.last and self._rng.random() < trouble.rate:
                self.faults += 1
                return self._rng.choice(trouble.kinds)
        return None

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, EOFError, asyncio.CancelledError):  # either side hung up, or the proxy ends
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; False where the connection is to be closed."""
        head = await reader.readuntil(b"\r\n\r\n")
        if b"\r\nexpect: 100-continue" in head.lower():
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            head = _without(head, b"expect")
        body = await _body(reader, head)
        self.requests += 1
        number, port = self.requests, writer.get_extra_info("peername")[1]
        await self._loop.run_in_executor(None, self._watch, number, port)
        fault = self._choose(number)
        if fault in ("500", "503"):
            code, text = ("InternalError", "Internal Server Error") if fault == "500" else ("SlowDown", "Slow Down")
            xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as asked</Message></Error>".encode()
            answer = f"HTTP/1.1 {fault} {text}\r\nContent-Type: application/xml\r\nContent-Length: {len(xml)}\r\n\r\n"
            writer.write(answer.encode() + (b"" if head.startswith(b"HEAD ") else xml))
            await writer.drain()
            return True
        if fault == "reset":
            _reset(writer)
            return False
        if fault == "stall":
            await asyncio.sleep(STALL_S)
            return False
        answer_head, answer = await self._forward(head, body)
        if fault == "reset-after" or (fault in ("cut", "short") and not answer):
            _reset(writer)
            return False
        if fault == "cut":
            writer.write(answer_head + answer[: self._rng.randrange(len(answer))])
            await writer.drain()
            return False
        if fault == "short":
            answer = answer[: self._rng.randrange(len(answer))]
            answer_head = _without(answer_head, b"content-length")
            answer_head = answer_head[:-2] + b"Content-Length: %d\r\n\r\n" % len(answer)
        writer.write(answer_head + answer)
        await writer.drain()
        return True

    async def _forward(self, head: bytes, body: bytes) -> tuple[bytes, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._target, limit=2**20)
        try:
            writer.write(head + body)
            await writer.drain()
            answer = await reader.readuntil(b"\r\n\r\n")
            while answer.startswith(b"HTTP/1.1 100"):
                answer = await reader.readuntil(b"\r\n\r\n")
            none = head.startswith(b"HEAD ") or answer[9:12] in (b"204", b"304")
            return answer, b"" if none else await _body(reader, answer)
        finally:
            writer.close()


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """The bytes after a head, as they came."""
    fields = head.lower().split(b"\r\n")
    length = next((int(field[15:]) for field in fields if field.startswith(b"content-length:")), None)
    if length is not None:
        return await reader.readexactly(length)
    if not any(field.startswith(b"transfer-encoding:") and b"chunked" in field for field in fields):
        return b""
    pieces = []
    while True:
        size = await reader.readuntil(b"\r\n")
        count = int(size.split(b";")[0], 16)
        pieces += [size, await reader.readexactly(count + 2)]
        if count == 0:
            return b"".join(pieces)


def _without(head: bytes, name: bytes) -> bytes:
    lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith(name + b":")]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a reset in place of a farewell."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
