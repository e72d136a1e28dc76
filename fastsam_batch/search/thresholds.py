"""What a search shows where nobody says it. Imports nothing: --help names it, too."""

from __future__ import annotations

MIN_CALIBRATED = 0.5  # the text is likelier than all of the background together


def least_calibrated(asked: float | None, min_score: float | None) -> float | None:
    """The least calibrated score of a search: the one asked for, else MIN_CALIBRATED, or none beside a least cosine."""
    return MIN_CALIBRATED if asked is None and min_score is None else asked
