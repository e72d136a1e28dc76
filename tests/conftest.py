"""One local Ray and photographs for tests that drive the job in this process, and a corpus for those that read one."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from corpus.made_corpus import MadeCorpus, make_corpus
from hypothesis import settings
from photographs import write_photographs

settings.register_profile("any machine", deadline=None)  # else a busy one fails tests that are right
settings.load_profile("any machine")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # else tests wait for minutes on a busy machine
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # else threads of several processes wait for each other's cores


@pytest.fixture(scope="session")
def forked_python():
    """Runs a Ray's Python programs as forks of a process that has imported what the job needs."""
    from warm import warm_python

    # A socket's path may have 107 bytes: pytest's own folders are too deep.
    short = tempfile.TemporaryDirectory(prefix="warm-", ignore_cleanup_errors=True)
    with short as folder, warm_python(Path(folder)) as (python, _):
        yield python


@pytest.fixture(scope="session")
def local_ray(forked_python):
    """Its workers are forks; fresh ones are those of the tests whose jobs start a Ray of their own."""
    import ray
    from warm import AGENTS_ENVIRONMENT, interpreter

    with interpreter(forked_python), pytest.MonkeyPatch.context() as patch:
        for name, value in AGENTS_ENVIRONMENT.items():
            patch.setenv(name, value)
        context = _started(ray)
    yield context
    ray.shutdown()


def _started(ray):
    for tries_left in (3, 2, 1, 0):
        try:
            return ray.init(address="local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
        except Exception as error:  # Ray's own: its node has 30 s to start, however busy the machine is
            ray.shutdown()
            if "timed out during startup" not in str(error) or not tries_left:
                raise


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeCorpus:
    """Three units on disk, as `made_corpus` writes them; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    return make_corpus(str(folder / "corpus"), folder)


@pytest.fixture
def made(made_once: MadeCorpus, tmp_path: Path) -> MadeCorpus:
    """A copy of the three units, to be read or broken."""
    uri = str(tmp_path / "corpus")
    shutil.copytree(made_once.uri, uri)
    return MadeCorpus(uri, made_once.masks, made_once.images)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    from job_runs import NAMES  # brings torch

    folder = tmp_path_factory.mktemp("photos")
    write_photographs(folder, NAMES)
    return folder
