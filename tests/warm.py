"""Python programs forked from one process that has imported what they need: else each takes seconds to begin.

`python warm.py SOCKET` is that process. What `_write_client` writes runs a program as the interpreter does, with its
own arguments, environment, folder and standard streams, but forked; it ends with the program's status, and where it
is killed, so is the program.

Ray's core reads the name of its job from the environment when it is imported, so each job's workers are forked from
a branch of that process which has imported Ray for them.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from servers import stop_group

PRELOAD = (
    "aiohttp", "cv2", "fastsam_batch.cli", "fastsam_batch.models.pair", "fastsam_batch.run", "grpc.aio", "jsonschema",
    "open_clip", "pandas", "pyarrow.dataset", "s3fs", "torch", "torchvision", "ultralytics.nn.modules",
    "ultralytics.nn.tasks",
)  # fmt: skip
RAY = ("ray.data", "fastsam_batch.pipeline")
AGENTS = ("ray.dashboard.agent", "ray._private.runtime_env.agent.main")
IDLE_S = 30.0  # after which a job's branch ends
IMGSZ = 96
IMPATIENT = "impatient"
PAUSE_S = 0.05  # of the impatient, before the job's second attempt at a request, in place of half a second
CLIENT_ATTEMPTS = 2  # of s3fs itself, in place of five
# The agents are no children of their raylet here.
AGENTS_ENVIRONMENT = {"RAY_enable_pipe_based_agent_to_parent_health_check": "1"}

_CLIENT = """#!{python} -IS
import array, json, os, socket, sys
argv = [word for word in sys.argv[1:] if word != "-u"]
if not argv or argv[0].startswith("-"):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
request = json.dumps([argv, dict(os.environ), os.getcwd()]).encode()
branch = os.environ.get("RAY_JOB_ID", "none")
while True:
    try:
        server = socket.socket(socket.AF_UNIX)
        server.connect({socket!r} + "-" + branch)
        break
    except OSError:
        root = socket.socket(socket.AF_UNIX)
        root.connect({socket!r})
        root.sendall(branch.encode())
        root.recv(1)
rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))
server.sendmsg([len(request).to_bytes(4, "big")], [rights])
server.sendall(request)
status = server.recv(8)
os._exit(int(status) if status else 1)
"""


@contextlib.contextmanager
def warm_python(folder: Path, *options: str) -> Iterator[tuple[Path, int]]:
    """What runs Python programs, and the process whose children they are; the folder's path is short.

    IMPATIENT shortens the pauses of all of them.
    """
    address, client = folder / "warm", folder / "python"
    _write_client(client, str(address))
    with (folder / "warm.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, __file__, address, *options],
            stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True,
            # Ray reads both when it is imported; the mode is what ray.init sets later, for what it starts itself.
            env={**AGENTS_ENVIRONMENT, "RAY_AUTH_MODE": "token", **os.environ},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 300
        while not address.exists():
            assert process.poll() is None and time.monotonic() < deadline, (folder / "warm.log").read_text()
            time.sleep(0.1)
        yield client, process.pid
    finally:
        for program in descendants(process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                program.kill()
        stop_group(process)
        process.stdin.close()


@contextlib.contextmanager
def interpreter(python: Path) -> Iterator[None]:
    """Nodes of Ray that are started start their Python programs by `python`."""
    before = sys.executable
    sys.executable = str(python)
    try:
        yield
    finally:
        sys.executable = before


def with_interpreter(python: Path, script: Path) -> list[str]:
    """The command that runs a script whose own Ray starts its Python programs by `python`, in AGENTS_ENVIRONMENT."""
    run = "import runpy, sys; _, sys.executable, *sys.argv = sys.argv; runpy.run_path(sys.argv[0], run_name='__main__')"
    return [sys.executable, "-c", run, str(python), str(script)]


def descendants(pid: int) -> list[psutil.Process]:
    """All processes below one, none where it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def _write_client(path: Path, address: str) -> None:
    """The program that stands in for the interpreter."""
    path.write_text(_CLIENT.format(python=sys.executable, socket=address))
    path.chmod(0o755)


class Forks:
    """The programs that run, each with who asked for it."""

    def __init__(self, address: str, lasting: bool) -> None:
        """`lasting` serves for ever, else until nobody has asked for IDLE_S and nothing runs."""
        self._address, self._lasting = address, lasting
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(address)
        self._server.listen(100)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._running: dict[int, tuple[int, socket.socket]] = {}

    def serve(self) -> None:
        """Start whatever is asked for and see it end."""
        while True:
            ready = self._selector.select(IDLE_S)
            if not ready and not self._running and not self._lasting:
                os.unlink(self._address)
                os._exit(0)
            for key, _ in ready:
                if key.fileobj is self._server:
                    self._start(self._server.accept()[0])
                elif key.data in self._running:
                    self._end(key.data, killed=not isinstance(key.fileobj, int))

    def _start(self, client: socket.socket) -> None:
        length, fds, _, _ = socket.recv_fds(client, 4, 3)
        if not length:  # whoever asked has been killed
            client.close()
            return
        argv, environment, folder = json.loads(_exactly(client, int.from_bytes(length, "big")))
        pid = os.fork()
        if pid == 0:
            self._selector.close()
            for ended, connection in [*self._running.values(), (self._server.detach(), client)]:
                os.close(ended)
                connection.close()
            _become(argv, environment, folder, fds)
        for fd in fds:
            os.close(fd)
        ended = os.pidfd_open(pid)
        self._running[pid] = ended, client
        self._selector.register(ended, selectors.EVENT_READ, pid)
        self._selector.register(client, selectors.EVENT_READ, pid)

    def _end(self, pid: int, killed: bool) -> None:
        ended, client = self._running.pop(pid)
        self._selector.unregister(ended)
        self._selector.unregister(client)
        if killed:
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(OSError):
            client.send(str(code if code >= 0 else 128 - code).encode())
        client.close()
        os.close(ended)


def _become(argv: list[str], environment: dict[str, str], folder: str, fds: list[int]) -> None:
    code = 1
    try:
        os.setpgid(0, 0)  # Ray kills the group of a worker that has ended
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
            os.close(fd)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        # A fork's first call makes torch's pool of threads anew; a second thread, meanwhile, would find none.
        sys.modules["torch"].set_num_threads(1)
        sys.argv = argv
        sys.path.insert(0, str(Path(argv[0]).parent))
        runpy.run_path(argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def main(address: str, *options: str) -> None:
    """Import, shorten pauses where that is asked for, and fork branches for those who ask, until stdin ends."""
    for name in PRELOAD:
        importlib.import_module(name)
    import torch

    if IMPATIENT in options:
        import s3fs

        from fastsam_batch import outage

        outage.PAUSE_S = PAUSE_S
        s3fs.S3FileSystem.retries = CLIENT_ATTEMPTS
    torch.set_num_threads(1)  # a fork inherits no threads
    _use_models()
    gc.freeze()
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen(100)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        if 0 in select.select([0, server], [], [])[0]:
            os.killpg(0, signal.SIGKILL)  # whoever started it is gone
        client = server.accept()[0]
        branch = client.recv(100).decode()
        if branch and not os.path.exists(f"{address}-{branch}"):
            ready, done = os.pipe()
            if os.fork() == 0:
                server.close()
                client.close()
                os.close(ready)
                _branch(f"{address}-{branch}", branch, done)
            os.close(done)
            os.read(ready, 1)
            os.close(ready)
        client.close()


def _branch(address: str, name: str, done: int) -> None:
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        lasting = name == "none"
        if not lasting:
            # It reads there as well whose end a worker must not survive. Nodes ends a killed node's workers itself.
            os.environ |= {"RAY_JOB_ID": name, "RAY_RAYLET_PID": str(os.getppid())}
        _import_ray(RAY + AGENTS * lasting)
        gc.freeze()
        forks = Forks(address, lasting)
        os.close(done)
        forks.serve()
    except BaseException:  # noqa: BLE001 - as the interpreter does
        sys.excepthook(*sys.exc_info())
        os._exit(1)


def _import_ray(modules: tuple[str, ...]) -> None:
    """Import them without a draw from Ray's generator of ids: all forks would go on with the same ids.

    Two workers that begin at once would then put their first object into the store under one id, and one of them end;
    `ray.init` waits for both for ever.
    """
    import ray.actor
    from ray._raylet import ActorClassID

    class Drawn:
        @staticmethod
        def from_random() -> ActorClassID:
            return ActorClassID(os.urandom(ActorClassID.size()))

    ray.actor.ActorClassID = Drawn
    try:
        for module in modules:
            importlib.import_module(module)
    finally:
        ray.actor.ActorClassID = ActorClassID


def _use_models() -> None:
    """Once through the models: what their libraries import and compile at the first use is then there for all."""
    import cv2
    import numpy as np

    from fastsam_batch.models.network import read_header
    from fastsam_batch.models.pair import load_models
    from fastsam_batch.models.weights import find_segmenter
    from fastsam_batch.sources.base import EncodedImage, UnitBytes
    from fastsam_batch.unit import UnitOptions, process_unit

    read_header(find_segmenter("builtin").main, None)
    models = load_models({"path": "builtin", "imgsz": IMGSZ, "conf": 0.01}, {"name": "builtin"}, "cpu", 1)
    data = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8))[1].tobytes()
    process_unit(UnitBytes("", "", True, (EncodedImage("", "", data),)), *models, UnitOptions())


if __name__ == "__main__":
    main(*sys.argv[1:])
