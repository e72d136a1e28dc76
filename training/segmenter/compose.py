"""Scenes made online: labelled photographs as they are, and objects pasted over backgrounds.

Method: copy-paste augmentation (Ghiasi et al. 2021) and scale jitter with mosaics (YOLOv4, Bochkovskiy et al.
2020), with made regions and thin shapes beside them, since no photograph at hand has labels of such.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.segmenter.backgrounds import crop_of, gradient, regions, texture
from training.segmenter.pictures import Cutout, Labelled, read_plain, read_sprite
from training.segmenter.scene import Instance, Scene, moved

Pixels = NDArray[np.uint8]
MAX_INSTANCES = 64
LABELLED, TAUGHT, UNLABELLED = 0.5, 0.25, 0.25  # how far unlabelled parts of photographs count as nothing
FROM_TAUGHT = 0.5  # of photographs and their cut-outs, where a segmenter taught some

REAL, MOSAIC, PASTED_ON_REAL = 0.65, 0.2, 0.4
ZOOM = (0.8, 2.5)  # times what would fit the frame
MAX_LENGTH = 640  # pixels of a zoomed photograph's long side, at most, in frames of more than 256
ON_LABELLED, ON_PLAIN, ON_REGIONS = 0.25, 0.35, 0.25  # the rest on gradients and textures
FROM_PHOTOGRAPHS, FROM_SPRITES = 0.5, 0.3  # the rest are made shapes
GLIMPSE = (0.4, 1.0)  # of a photograph's short side
LARGE = 0.25  # of pasted objects: 0.7 to 1.2 of the frame


@dataclass
class Composer:
    """Draws scenes from its sources, all at random from `rng`."""

    labelled: list[Labelled]
    cutouts: list[Cutout]
    sprites: list[Path]
    plain: list[Path]
    rng: np.random.Generator
    taught: list[Labelled] = field(default_factory=list)  # photographs whose labels are a segmenter's masks
    taught_cutouts: list[Cutout] = field(default_factory=list)
    unlabelled: list[Path] = field(default_factory=list)  # photographs that are nothing but looked at

    def scene(self, side: int) -> Scene:
        """One scene with at most 64 labels; its image is ready for the network but for its type."""
        rng = self.rng
        if rng.random() < REAL:
            scene = self.mosaic(side) if rng.random() < MOSAIC else self.real(side)
            if rng.random() < PASTED_ON_REAL:
                self.paste(scene, int(rng.integers(1, 5)))
        else:
            scene = self.background(side)
            self.paste(scene, int(rng.integers(2, 17)))
        instances = scene.labels()
        if len(instances) > MAX_INSTANCES:
            instances = [instances[i] for i in rng.choice(len(instances), MAX_INSTANCES, replace=False)]
        return Scene(filmed(scene.image, rng), instances, scene.negatives)

    def glimpse(self, side: int) -> Pixels:
        """A part of a photograph of whatever kind, for those who need no labels."""
        files = self.plain + self.unlabelled
        number = int(self.rng.integers(len(files) + len(self.labelled)))
        photograph = read_plain(files[number]) if number < len(files) else self.labelled[number - len(files)].image
        return filmed(crop_of(photograph, side, self.rng, GLIMPSE), self.rng)

    def real(self, side: int) -> Scene:
        """A labelled photograph, zoomed, mirrored, stretched, anywhere over the frame."""
        rng = self.rng
        taught = bool(self.taught) and rng.random() < FROM_TAUGHT
        sources = self.taught if taught else self.labelled
        source = sources[rng.integers(len(sources))]
        height, width = source.image.shape[:2]
        most = min(ZOOM[1], max(MAX_LENGTH / side, 1.2))
        zoom = side / max(height, width) * np.exp(rng.uniform(np.log(ZOOM[0]), np.log(most)))
        stretch = np.exp(rng.uniform(-0.15, 0.15))
        scale_x, scale_y = zoom * stretch, zoom / stretch
        mirrored = rng.random() < 0.5
        free_x, free_y = side - scale_x * width, side - scale_y * height
        matrix = np.array([[scale_x, 0, free_x * rng.random()], [0, scale_y, free_y * rng.random()]])
        if mirrored:
            matrix[0] = -scale_x, 0, side - matrix[0, 2]
        grey = tuple(int(value) for value in rng.integers(90, 140, 3)) if rng.random() < 0.5 else (114, 114, 114)
        of_image, picture = matrix, source.image
        if zoom < 0.7:  # half of it, so that thinning out the pixels does not alias
            of_image, picture = matrix * [[2, 2, 1]], source.half
        image = cv2.warpAffine(
            picture, of_image, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=grey
        )
        found = (moved(mask, x, y, matrix, side) for x, y, mask in source.masks)
        return Scene(
            np.asarray(image, np.uint8), [one for one in found if one is not None], TAUGHT if taught else LABELLED
        )

    def mosaic(self, side: int) -> Scene:
        """Four labelled photographs around a point."""
        middle_x, middle_y = (int(side * self.rng.uniform(0.35, 0.65)) for _ in range(2))
        scene = Scene(np.zeros((side, side, 3), np.uint8), [], LABELLED)
        for left, right in ((0, middle_x), (middle_x, side)):
            for top, bottom in ((0, middle_y), (middle_y, side)):
                span = max(right - left, bottom - top)
                quarter = self.real(span)
                scene.negatives = min(scene.negatives, quarter.negatives)
                scene.image[top:bottom, left:right] = quarter.image[: bottom - top, : right - left]
                for one in quarter.instances:
                    mask = one.mask[: max(bottom - top - one.y, 0), : max(right - left - one.x, 0)]
                    if mask.size and (area := cv2.countNonZero(mask)):
                        scene.instances.append(Instance(left + one.x, top + one.y, mask, area))
        return scene

    def background(self, side: int) -> Scene:
        """What objects are pasted on: a labelled or plain photograph, made regions, or next to nothing."""
        rng, kind = self.rng, self.rng.random()
        if kind < ON_LABELLED:
            return self.real(side)
        if kind < ON_LABELLED + ON_PLAIN:
            return Scene(crop_of(self._photograph(), side, rng), [], UNLABELLED)
        if kind < ON_LABELLED + ON_PLAIN + ON_REGIONS:
            return regions(self._photograph, side, rng)
        return Scene(gradient(side, rng) if rng.random() < 0.5 else texture(self._photograph(), side, rng))

    def paste(self, scene: Scene, count: int) -> None:
        """Lay objects over a scene, larger ones first; what they cover is taken from the labels below."""
        rng, side = self.rng, len(scene.image)
        sizes = np.exp(rng.uniform(np.log(10), np.log(0.8 * side), count))
        sizes = np.where(rng.random(count) < LARGE, side * rng.uniform(0.7, 1.2, count), sizes)
        large = np.flatnonzero(sizes > 0.6 * side)
        sizes[large[1:]] *= 0.3  # one such object hides the rest
        for size in sorted(sizes, reverse=True):
            lay(scene, self._object(int(side)), float(size), rng)

    def _photograph(self) -> Pixels:
        if self.plain and self.rng.random() < 0.85:
            return read_plain(self.plain[self.rng.integers(len(self.plain))])
        return self.labelled[self.rng.integers(len(self.labelled))].image

    def _object(self, side: int) -> Cutout:
        rng, kind = self.rng, self.rng.random()
        if kind < FROM_PHOTOGRAPHS and self.taught_cutouts and rng.random() < FROM_TAUGHT:
            return self.taught_cutouts[rng.integers(len(self.taught_cutouts))]
        if kind < FROM_PHOTOGRAPHS and self.cutouts:
            return self.cutouts[rng.integers(len(self.cutouts))]
        if kind < FROM_PHOTOGRAPHS + FROM_SPRITES and self.sprites:
            return read_sprite(self.sprites[rng.integers(len(self.sprites))])
        return shape(texture(self._photograph(), max(side // 2, 64), rng), rng)


def shape(stuff: Pixels, rng: np.random.Generator) -> Cutout:
    """A textured ellipse, bar, table-like quadrilateral or blob; one in two is 3 to 16 times as long as wide."""
    side = len(stuff)
    aspect = rng.uniform(3, 16) if rng.random() < 0.5 else rng.uniform(1, 3)
    half_x, half_y = (side - 2) / 2, max((side - 2) / 2 / aspect, 1.5)
    kind = rng.integers(4)
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    if kind == 0:
        points = np.stack([np.cos(turns), np.sin(turns)], 1)
    elif kind == 1:  # a bar, tapered at one end
        tip = rng.uniform(0, 1)
        points = np.array([[-1, -1], [0.7, -1], [1, -tip], [1, tip], [0.7, 1], [-1, 1]])
    elif kind == 2:
        points = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * rng.uniform(0.5, 1, (4, 2))
    else:
        radius = 0.75 + 0.25 * sum(np.sin(k * turns + rng.uniform(0, 6.28)) for k in (2, 3, 5)) / 3
        points = np.stack([radius * np.cos(turns), radius * np.sin(turns)], 1)
    alpha = np.zeros((side, side), np.uint8)
    cv2.fillPoly(alpha, [np.int32(points * [half_x, half_y] + side / 2)], (255,), cv2.LINE_AA)
    x, y, width, height = cv2.boundingRect(alpha)
    shade = np.linspace(*rng.uniform(0.5, 1.2, 2), height)[:, None, None]  # light from one side, as on a rod
    image = np.clip(stuff[y : y + height, x : x + width] * shade, 0, 255).astype(np.uint8)
    return Cutout(image, alpha[y : y + height, x : x + width])


def lay(scene: Scene, thing: Cutout, size: float, rng: np.random.Generator) -> None:
    """Paste an object with its long side `size` pixels, turned, toned and blurred at its border."""
    side = len(scene.image)
    height, width = thing.alpha.shape
    scale = size / max(height, width)
    if scale < 0.5:
        step = max(scale * 1.5, 1.5 / min(height, width))
        image = cv2.resize(thing.image, None, fx=step, fy=step, interpolation=cv2.INTER_AREA)
        alpha = cv2.resize(thing.alpha, None, fx=step, fy=step, interpolation=cv2.INTER_AREA)
        scale, (height, width) = size / max(alpha.shape), alpha.shape
    else:
        image, alpha = thing.image, thing.alpha
    angle = rng.uniform(-0.5, 0.5) if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.random() < 0.5:
        turn[:, 0] *= -1
    centre = rng.uniform(0.1, 0.9, 2) * side if size < 0.7 * side else rng.uniform(0.35, 0.65, 2) * side
    matrix = np.concatenate([turn, (centre - turn @ [width / 2, height / 2])[:, None]], axis=1)
    found = moved(np.asarray(alpha, np.uint8), 0, 0, matrix, side)
    if found is None:
        return
    inner = matrix.copy()
    inner[:, 2] -= found.x, found.y
    h, w = found.mask.shape
    over = cv2.warpAffine(image, inner, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(alpha, inner, (w, h), flags=cv2.INTER_LINEAR).astype(np.float32) / 255
    if rng.random() < 0.6 and min(h, w) > 6:
        share = cv2.GaussianBlur(share, (0, 0), rng.uniform(0.4, 1.0))
    below = scene.image[found.y : found.y + h, found.x : found.x + w]
    toned = over.astype(np.float32) * rng.uniform(0.75, 1.25)
    if rng.random() < 0.5:
        toned += rng.uniform(0, 0.5) * (below.reshape(-1, 3).mean(0) - toned.reshape(-1, 3).mean(0))
    blended = below + share[:, :, None] * (np.clip(toned, 0, 255) - below)
    scene.image[found.y : found.y + h, found.x : found.x + w] = np.clip(blended, 0, 255).astype(np.uint8)
    scene.cover(found.x, found.y, found.mask)
    scene.instances.append(found)


def filmed(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Brightness, contrast, colour cast, now and then grey, blurred, grainy or pressed as JPEG."""
    levels = np.arange(256, dtype=np.float32) / 255
    gamma, gains = np.exp(rng.normal(0, 0.25)), np.exp(rng.normal(0, 0.1, 3))
    table = (levels[:, None] ** gamma * gains + rng.normal(0, 0.04)).clip(0, 1) * 255
    out = cv2.LUT(image, table.astype(np.uint8)[None])
    if rng.random() < 0.05:
        out = cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < 0.12:
        out = cv2.GaussianBlur(out, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < 0.2:
        noise = rng.integers(0, int(rng.integers(3, 16)), out.shape, dtype=np.int16)
        out = np.clip(out + noise - noise.max() // 2, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        coded = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 90))])[1]
        out = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    return np.asarray(out, np.uint8)
