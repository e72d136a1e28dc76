"""Which attempt at a unit may commit."""

from __future__ import annotations

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
