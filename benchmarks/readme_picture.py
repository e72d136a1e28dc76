"""The picture in the README: demo photographs with a known free licence, and all their masks from a corpus.

python benchmarks/readme_picture.py --corpus out/demo/corpus --output docs/images/everything.jpg
"""

from __future__ import annotations

import argparse

import numpy as np
from PIL import Image

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.masks.draw import View, paint_all, show
from fastsam_batch.search.pictures import boxed_mask

PHOTOGRAPHS = ("astronaut.png", "coffee.png", "rocket.jpg")  # public domain and CC0, see sources/demo.py
HEIGHT = 300
GAP = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--output", required=True)
    options = parser.parse_args()
    corpus = Corpus.open(options.corpus)
    columns = []
    for image_id in PHOTOGRAPHS:
        stored = corpus.image(image_id)
        image = stored.pixels()
        height, width = image.shape[:2]
        view = View((0, 0, width, height), (round(width * HEIGHT / height), HEIGHT))
        rows = sorted(stored.masks.to_pylist(), key=lambda mask: -mask["area"])
        boxed = [boxed_mask(mask) for mask in rows]
        pair = [show(image, view), paint_all(image, boxed, view)]
        gap = np.full((GAP, view.size_wh[0], 3), 255, np.uint8)
        columns.append(np.concatenate([pair[0], gap, pair[1]]))
    space = np.full((columns[0].shape[0], GAP, 3), 255, np.uint8)
    joined = np.concatenate([part for column in columns for part in (column, space)][:-1], axis=1)
    Image.fromarray(joined).save(options.output, quality=88)


if __name__ == "__main__":
    main()
