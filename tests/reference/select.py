"""Prompt-guided selection, slow and obvious: dense masks, one by one, as the method writes it."""

from __future__ import annotations

import numpy as np


def select_points(masks, foreground, background, smallest=False, chosen=()):
    """bool [H, W], the union, of masks bool [n, H, W], and the names of the masks added to it.

    `chosen` are masks selected otherwise, which are added as if a foreground point lay in them.
    """
    areas = masks.sum((1, 2))
    order = sorted(range(len(masks)), key=lambda mask: areas[mask], reverse=True)  # stable: first stored first
    picked = []
    for x, y in foreground:
        around = [mask for mask in order if masks[mask][int(y), int(x)]]
        picked.append(around[-1:] if smallest else around)
    union = np.zeros(masks.shape[1:], bool)
    added = []
    for mask in order:
        pixels = masks[mask]
        has_background = any(pixels[int(y), int(x)] for x, y in background)
        has_foreground = any(mask in around for around in picked)
        if has_background:
            union[pixels] = False
        elif has_foreground or mask in chosen:
            union[pixels] = True
            added.append(mask)
    return union, sorted(added)


def select_box(masks, box):
    """The mask with the highest IoU to the box, and the IoU; (None, 0.0) where none has a pixel in it."""
    height, width = masks.shape[1:]
    x1, y1, x2, y2 = (round(value) for value in box)
    inside = np.zeros((height, width), bool)
    inside[max(y1, 0) : min(y2, height), max(x1, 0) : min(x2, width)] = True
    ious = []
    for mask in masks:
        shared = int((mask & inside).sum())
        ious.append(shared / (int(inside.sum()) + int(mask.sum()) - shared))
    if not ious or max(ious) == 0:
        return None, 0.0
    return int(np.argmax(ious)), max(ious)


def smooth(mask, radius):
    """Opening, then closing by a disc; neighbours outside the image are not looked at."""

    def every(pixels, rule):
        height, width = pixels.shape
        result = np.zeros_like(pixels)
        for y in range(height):
            for x in range(width):
                result[y, x] = rule(
                    pixels[v, u]
                    for v in range(max(y - radius, 0), min(y + radius + 1, height))
                    for u in range(max(x - radius, 0), min(x + radius + 1, width))
                    if (v - y) ** 2 + (u - x) ** 2 <= radius**2
                )
        return result

    opened = every(every(mask, all), any)
    return every(every(opened, any), all)
