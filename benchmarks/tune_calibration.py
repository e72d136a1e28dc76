"""What each threshold of the calibrated score costs and brings, on photographs whose objects are known.

From a corpus of photographs with COCO annotations that the embedder was not trained on: of the built-in CLIP the
forty of coco-masks that it never sees. Many times ten of them are drawn, as many as the demo has, and every name
of the annotations is searched for: a name that is in the annotations of the ten is there, all others are absent.
None of the demo's texts or photographs takes part. To tune for other weights, embed the corpus anew with them:

fastsam-batch segment --input HELD_OUT_PHOTOGRAPHS --output out/held
python benchmarks/tune_calibration.py --corpus out/held --annotations coco-masks/instances.json
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import PurePosixPath

import numpy as np

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.corpus.vectors import embedding_matrix
from fastsam_batch.search.background import background_of
from fastsam_batch.search.best import exact_cosines
from fastsam_batch.search.find import corpus_encoder
from fastsam_batch.search.texts import text_vectors
from fastsam_batch.search.thresholds import MIN_CALIBRATED

THRESHOLDS = (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


def photographs_of(annotations: str) -> dict[str, set[str]]:
    """File names of the photographs that show each category."""
    with open(annotations, encoding="utf-8") as file:
        data = json.load(file)
    files = {image["id"]: PurePosixPath(image["file_name"]).name for image in data["images"]}
    names = {category["id"]: category["name"] for category in data["categories"]}
    found: dict[str, set[str]] = {name: set() for name in names.values()}
    for annotation in data["annotations"]:
        found[names[annotation["category_id"]]].add(files[annotation["image_id"]])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="of the held-out photographs")
    parser.add_argument("--annotations", required=True, help="their objects, COCO instances")
    parser.add_argument("--photographs", type=int, default=10, help="in each draw")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--absent-found", type=float, default=0.1, help="share of absent texts that may show something")
    parser.add_argument("--embedder", help="where the corpus's own text encoder is now")
    options = parser.parse_args()

    corpus = Corpus.open(options.corpus)
    encode = corpus_encoder(corpus, options.embedder)
    masks = corpus.masks(["image_id", "embedding"], "area > 0").combine_chunks()
    embeddings = embedding_matrix(masks["embedding"].combine_chunks())
    there = ~np.isnan(embeddings[:, 0])
    embeddings = embeddings[there]
    images = np.array([PurePosixPath(name).name for name in masks["image_id"].to_pylist()])[there]
    shown_in = photographs_of(options.annotations)
    texts = list(shown_in)
    background = background_of(encode)
    cosines, calibrated = [], []
    for text, vector in zip(texts, text_vectors(texts, encode), strict=True):
        cosines.append(exact_cosines(embeddings, vector[None])[:, 0])
        calibrated.append(background.without([text], vector[None]).calibrate(cosines[-1], embeddings))

    random = np.random.default_rng(0)
    outcomes: dict[float, dict[str, int]] = {threshold: defaultdict(int) for threshold in THRESHOLDS}
    searches = {"there": 0, "absent": 0}
    for _ in range(options.draws):
        drawn = set(random.choice(np.unique(images), options.photographs, replace=False).tolist())
        rows = np.flatnonzero(np.isin(images, list(drawn)))
        for number, text in enumerate(texts):
            right = shown_in[text] & drawn
            searches["there" if right else "absent"] += 1
            for threshold, counts in outcomes.items():
                kept = rows[calibrated[number][rows] >= threshold]
                if len(kept):
                    first = images[kept[np.argmax(cosines[number][kept])]]
                    counts["absent_found" if not right else "right" if first in right else "wrong"] += 1
    curve = [
        {
            "min_calibrated": threshold,
            "right_first": round(counts["right"] / searches["there"], 3),
            "wrong_first": round(counts["wrong"] / searches["there"], 3),
            "absent_found": round(counts["absent_found"] / searches["absent"], 3),
        }
        for threshold, counts in outcomes.items()
    ]
    for row in curve:
        print(row)
    allowed = [row["min_calibrated"] for row in curve if row["absent_found"] <= options.absent_found]
    summary = {"searches": searches, "default": MIN_CALIBRATED, "least_allowed": min(allowed, default=None)}
    print(json.dumps(summary | {"embedder": corpus.info["models"]["embedder"]["sha256"], "curve": curve}))


if __name__ == "__main__":
    main()
