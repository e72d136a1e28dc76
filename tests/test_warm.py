"""Programs that are forked differ where those that start anew would."""

from __future__ import annotations

import os
import subprocess

import pytest


@pytest.mark.parametrize("job", [{}, {"RAY_JOB_ID": "ffffffff"}], ids=["no job", "a job"])
def test_forks_draw_ids_of_their_own(forked_python, tmp_path, job):
    """The same ids would end one of two workers that begin at once, and `ray.init` would wait for it for ever."""
    program = tmp_path / "draw.py"
    program.write_text("import ray\nfor kind in ray.ObjectID, ray.actor.ActorClassID: print(kind.from_random().hex())")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_JOB_ID"} | job
    drawn = []
    for _ in range(2):
        done = subprocess.run(
            [forked_python, program], env=environment, capture_output=True, text=True, timeout=120, check=True
        )
        drawn += done.stdout.split()
    assert len(drawn) == 4 and len(set(drawn)) == 4
