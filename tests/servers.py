"""Real servers for the tests: each is started with free ports, waited for, and stopped by its process id."""

from __future__ import annotations

import contextlib
import http.server
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret-never-logged"}


def free_ports(count):
    """Ports nobody listens on, outside the range Ray gives its workers."""
    found = []
    while len(found) < count:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if not 10_000 <= port < 20_000 and port < 55_000 and port not in found:
            found.append(port)
    return found


@contextlib.contextmanager
def web_server(handler):
    """The address of a web server whose requests a handler answers."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def wait_for_port(port, process, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens on port {port} after {seconds} s")


def stop_group(process):
    """Stop a server and the processes it started, which share its session."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signum)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)


@contextlib.contextmanager
def s3_server(folder: Path):
    """SeaweedFS on loopback; yields the environment that reaches it."""
    program = shutil.which("weed", path=str(Path(sys.executable).parent))
    # Its gRPC ports are the given ones plus 10,000: give them too.
    s3, master, volume, filer, *grpc = free_ports(8)
    command = [program, "server", f"-dir={folder}", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    # Its catalogues would listen on fixed ports, and two servers on one machine collide there.
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false"]
    command += [f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
    command += [
        f"-{name}.port.grpc={port}" for name, port in zip(("s3", "master", "volume", "filer"), grpc, strict=True)
    ]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for_port(s3, process)
        yield {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3}", "AWS_DEFAULT_REGION": "us-east-1"}
    finally:
        process.kill()  # asked to stop, it would wait for readers for seconds
        process.wait()


@contextlib.contextmanager
def ray_head(folder: Path, environment: dict[str, str]):
    """A Ray head with a dashboard for job submission; yields the environment of its clients."""
    gcs, dashboard, agent_grpc, agent_http, metrics = free_ports(5)
    # For busy machines: workers at the tests' own priority, and patience with the agent that takes jobs.
    settings = {"RAY_metrics_report_interval_ms": "300", "RAY_worker_niceness": "0"}
    environment = {**environment, **settings, "RAY_agent_register_timeout_ms": "120000"}
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    ray = str(Path(sys.executable).parent / "ray")
    command = [
        ray,
        "start",
        "--head",
        "--block",
        "--num-cpus=2",
        "--num-gpus=0",
        "--disable-usage-stats",
        "--node-ip-address=127.0.0.1",
    ]
    command += [f"--port={gcs}", f"--dashboard-port={dashboard}", "--dashboard-host=127.0.0.1"]
    command += [f"--dashboard-agent-grpc-port={agent_grpc}", f"--dashboard-agent-listen-port={agent_http}"]
    command += [f"--metrics-export-port={metrics}"]
    with (folder / "ray.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **environment, **token}
        )
    try:
        wait_for_port(dashboard, process, 120)
        yield {
            **environment,
            **token,
            "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}",
            "TEST_METRICS": f"http://127.0.0.1:{metrics}/metrics",
        }
    finally:
        stop_group(process)
