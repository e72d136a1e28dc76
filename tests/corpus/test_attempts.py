"""Which attempt at a unit may commit."""

from __future__ import annotations

import pytest

from fastsam_batch.corpus.attempts import begin_attempt, end_attempts, is_newest


def test_only_the_newest_attempt_may_commit(tmp_path):
    uri = str(tmp_path)
    first = begin_attempt(uri, "u", "aaaa")
    assert (first.number, first.in_run) == (1, 1)
    assert is_newest(uri, "u", first.name)
    second = begin_attempt(uri, "u", "bbbb")
    third = begin_attempt(uri, "u", "bbbb")
    assert [(a.number, a.in_run) for a in (second, third)] == [(2, 1), (3, 2)]
    assert [is_newest(uri, "u", attempt.name) for attempt in (first, second, third)] == [False, False, True]
    end_attempts(uri, "u")
    assert not is_newest(uri, "u", third.name)
    end_attempts(uri, "u")
    assert begin_attempt(uri, "u", "cccc").number == 1


@pytest.mark.parametrize("name", ["run[1]", "run*", "run?"])
def test_a_name_that_looks_like_a_pattern_ends_its_own_attempts_alone(name):
    mine, other = f"memory://attempts/{name}/c", "memory://attempts/run1/c"
    begin_attempt(mine, "u", "aaaa")
    begun = begin_attempt(other, "u", "bbbb")
    end_attempts(mine, "u")
    assert is_newest(other, "u", begun.name)
    assert begin_attempt(mine, "u", "cccc").number == 1
    for uri in (mine, other):
        end_attempts(uri, "u")
