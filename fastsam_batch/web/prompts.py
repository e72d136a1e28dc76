"""Prompts as the page's address writes them, in the order they were given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from fastsam_batch.errors import InputError
from fastsam_batch.masks.select import Box, Point
from fastsam_batch.search.prompts import parse_boxes, parse_points

_LONGEST_TEXT = 300


class WrittenPrompts(TypedDict):
    """Those fields of `search.prompts.Prompts` that an address can hold."""

    foreground: list[Point]
    background: list[Point]
    boxes: list[Box]
    texts: list[str]


def parse_prompts(written: Sequence[str]) -> WrittenPrompts:
    """Prompts of `add:x,y`, `not:x,y`, `box:x1,y1,x2,y2` and `text:words`, coordinates in pixels of the image.

    Raises InputError for another form.
    """
    found = WrittenPrompts(foreground=[], background=[], boxes=[], texts=[])
    for prompt in written:
        kind, _, value = prompt.partition(":")
        if kind == "add":
            found["foreground"] += parse_points([value], "add")
        elif kind == "not":
            found["background"] += parse_points([value], "not")
        elif kind == "box":
            found["boxes"] += parse_boxes([value], "box")
        elif kind == "text" and value.strip() and len(value) <= _LONGEST_TEXT:
            found["texts"].append(value)
        else:
            raise InputError(
                f"the prompt {prompt[:60]!r} is none of add:x,y, not:x,y, box:x1,y1,x2,y2 "
                f"and text:words (up to {_LONGEST_TEXT} letters)"
            )
    return found
