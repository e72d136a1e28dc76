"""The built wheel, alone: schemas and weights travel in it, and the demo runs away from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=200)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_carries_schemas_and_weights_and_nothing_else_that_is_large(wheel):
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    for name in ("masks", "images", "receipt", "corpus"):
        assert f"fastsam_batch/schemas/{name}.v1.json" in sizes
    weights = {"fastsam_batch/models/builtin/segmenter.safetensors"}
    weights.add("fastsam_batch/models/builtin/clip/open_clip_model.safetensors")
    assert weights | {"fastsam_batch/models/builtin/clip/open_clip_config.json", "fastsam_batch/py.typed"} <= set(sizes)
    assert sum(sizes[name] for name in weights) < 60 * 2**20
    assert all(size < 500_000 for name, size in sizes.items() if name not in weights)
    assert not [name for name in sizes if name.startswith(("tests/", "training/", "benchmarks/"))]


@pytest.mark.timeout(400)
def test_the_demo_runs_from_the_wheel_alone(wheel, tmp_path):
    """A clean environment holds the wheel; the packages it needs are seen in the ones already installed, where
    the checkout's own link is not followed.
    """
    environment = tmp_path / "clean"
    venv.create(environment)
    python = environment / "bin" / "python"
    site = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    )
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, timeout=100)
    (site / "installed_already.pth").write_text(sysconfig.get_path("purelib") + "\n")
    settings = {**os.environ, "RAY_ADDRESS": "local", "PYTHONPATH": ""}
    where = subprocess.run(
        [python, "-c", "import fastsam_batch; print(fastsam_batch.__file__)"],
        cwd=tmp_path,
        env=settings,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(site)
    command = [str(environment / "bin" / "fastsam-batch"), "segment", "--input", "demo:", "--output", "corpus"]
    done = subprocess.run(
        [*command, "--limit", "3"], cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["images"], summary["failed"]) == (3, 0)
    assert (tmp_path / "corpus" / "corpus.json").is_file()
