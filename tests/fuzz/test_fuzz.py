"""A short fuzz with every run of the tests, and the machinery of the long one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.mutate import OPERATIONS, Damage, damaged
from fuzz.runner import generator_of, run_slice
from fuzz.targets import IMAGE_SEEDS, TARGETS, WORDS, check_image, check_rle, check_where
from hypothesis import example, given, settings
from hypothesis import strategies as st

fractions = st.floats(0, 1, allow_nan=False)
damages = st.lists(
    st.builds(Damage, st.sampled_from(OPERATIONS), fractions, st.integers(0, 2**32 - 1), fractions), max_size=6
)


@given(st.sampled_from(range(len(IMAGE_SEEDS))), damages, st.sampled_from(range(len(IMAGE_SEEDS))))
@settings(max_examples=150, deadline=None)
def test_damaged_images_are_pixels_or_an_image_error(seed, harm, other):
    check_image(damaged(IMAGE_SEEDS[seed], harm, IMAGE_SEEDS[other]))


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_pixels_or_an_image_error(data):
    check_image(data)


@given(st.tuples(st.integers(-3, 2**62), st.integers(-3, 2**62)), st.text(max_size=60))
@example((2**62, 2**62), "0")
@example((1, 1), "o" * 100_000)
@settings(max_examples=300, deadline=None)
def test_any_text_is_runs_or_a_value_error(size, text):
    check_rle(size, text)


@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=16).map(" ".join))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_filter_or_an_input_error(text):
    check_where(text)


@pytest.mark.parametrize("target", TARGETS)
def test_the_first_cases_of_the_long_fuzz(target):
    for case in range(30):
        TARGETS[target](generator_of(target, 0, case))


def test_what_raises_or_ends_its_process_is_named_and_the_run_goes_on_behind_it():
    following, found = 0, []
    while following < 6:
        following, more = run_slice("fuzz.deadly:deadly", 3, following, 30)
        found += more
    kinds = dict(found)
    assert len(kinds) == len(found)
    for case in range(6):
        what = generator_of("fuzz.deadly:deadly", 3, case).randrange(3)
        assert (case in kinds) == (what != 2)
        if what != 2:
            assert ("a finding" if what == 0 else "ended its process with status 7") in kinds[case]


def test_what_hangs_is_named(monkeypatch):
    monkeypatch.setattr("fuzz.runner.HANG_S", 8)
    assert run_slice("fuzz.deadly:hangs", 1, 5, 1.0, hang=1) == (6, [(5, "hung for 1 s")])


def test_a_slice_ends_at_its_time():
    following, found = run_slice("fuzz.deadly:quiet", 1, 0, 1.0)
    assert following > 10 and found == []


def test_the_command_names_its_findings_and_exits_1(tmp_path):
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-m", "fuzz", "--target", "fuzz.deadly:deadly", "--minutes", "0.1", "--seed", "3"]
    environment = {**os.environ, "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}"}
    done = subprocess.run(command, cwd=tests, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])["findings"]["fuzz.deadly:deadly"]
    assert found and f"fuzz.deadly:deadly --seed 3 --case {found[0]}: " in done.stderr
