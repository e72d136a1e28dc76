"""What weights find on the demo photographs, side by side, at their own defaults: their failures are for all to see.

python -m training.segmenter.picture --weights out/segmenter/segmenter.safetensors builtin --output failures.jpg
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastsam_batch.errors import InputError
from fastsam_batch.images import decode_image
from fastsam_batch.masks.draw import BoxedMask, View, paint_all, show
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import find_segmenter
from fastsam_batch.sources.demo import PHOTOGRAPHS, SCHEME, read_demo

GAP = 6


def picture(weights: list[str], names: list[str], height: int, conf: float | None = None) -> NDArray[np.uint8]:
    """A column a photograph, uint8 RGB: the photograph, and below it the masks of each of `weights`."""
    segmenters = [Segmenter(find_segmenter(name).main, conf=conf) for name in weights]
    columns = []
    for name in names:
        image = decode_image(read_demo(SCHEME + name))
        view = View((0, 0, image.shape[1], image.shape[0]), (round(image.shape[1] * height / image.shape[0]), height))
        rows = [show(image, view)]
        for segmenter in segmenters:
            found = segmenter.segment([image])[0]
            order = np.argsort(-found.areas, kind="stable")
            masks = [BoxedMask(found.rles[i], found.bboxes_xywh[i]) for i in order]
            rows += [np.full((GAP, view.size_wh[0], 3), 255, np.uint8), paint_all(image, masks, view)]
        columns += [np.concatenate(rows), np.full((len(np.concatenate(rows)), GAP, 3), 255, np.uint8)]
    return np.concatenate(columns[:-1], axis=1)


def main(arguments: list[str] | None = None) -> int:
    """Write the picture; exit status 2 with a sentence for weights that are none."""
    parser = argparse.ArgumentParser(prog="python -m training.segmenter.picture", description=__doc__)
    parser.add_argument("--weights", nargs="+", required=True, help="builtin or files, a row each")
    parser.add_argument("--photographs", nargs="+", default=[p.name for p in PHOTOGRAPHS], help="names in demo:")
    parser.add_argument("--height", type=int, default=240, help="of a photograph, in pixels")
    parser.add_argument("--conf", type=float, help="threshold instead of the weights' own")
    parser.add_argument("--output", required=True)
    options = parser.parse_args(arguments)
    try:
        pixels = picture(options.weights, options.photographs, options.height, options.conf)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    Image.fromarray(pixels).save(options.output, quality=82)
    return 0


if __name__ == "__main__":
    sys.exit(main())
