"""Which everyday texts find the right demo photograph first, from a corpus of `--input demo:`.

python benchmarks/demo_queries.py --corpus out/demo/corpus
"""

from __future__ import annotations

import argparse
import json

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.search.find import find_masks

PEOPLE = {"astronaut.png", "bus.jpg", "grace_hopper.jpg", "zidane.jpg"}
RIGHT = {
    "a motorcycle": {"motorcycle_left.png"},
    "a motorbike": {"motorcycle_left.png"},
    "a bicycle": {"motorcycle_left.png"},
    "a wheel": {"motorcycle_left.png", "bus.jpg"},
    "a cat": {"chelsea.png"},
    "a kitten": {"chelsea.png"},
    "an eye": {"chelsea.png", *PEOPLE},
    "a cup of coffee": {"coffee.png"},
    "a cup": {"coffee.png"},
    "a spoon": {"coffee.png"},
    "a flower": {"flower.jpg"},
    "a dahlia": {"flower.jpg"},
    "a rocket": {"rocket.jpg", "astronaut.png"},
    "a tower": {"rocket.jpg", "china.jpg"},
    "a building": {"china.jpg", "bus.jpg"},
    "a temple": {"china.jpg"},
    "a pagoda": {"china.jpg"},
    "a roof": {"china.jpg", "bus.jpg"},
    "a bus": {"bus.jpg"},
    "a vehicle": {"bus.jpg", "motorcycle_left.png"},
    "a person": PEOPLE,
    "a man": {"bus.jpg", "zidane.jpg"},
    "a woman": {"astronaut.png", "bus.jpg", "grace_hopper.jpg"},
    "a face": PEOPLE,
    "a tie": {"zidane.jpg", "grace_hopper.jpg"},
    "a suit": {"zidane.jpg", "grace_hopper.jpg"},
    "a helmet": {"astronaut.png"},
    "a hat": {"grace_hopper.jpg"},
    "a flag": {"astronaut.png", "grace_hopper.jpg"},
    "a tree": {"china.jpg", "bus.jpg"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True)
    options = parser.parse_args()
    hits = find_masks(Corpus.open(options.corpus), list(RIGHT), top_k=1).to_pylist()
    right = []
    for hit in hits:
        found = hit["image_id"] in RIGHT[hit["text"]]
        right += [hit["text"]] * found
        print(f"{'right' if found else '     '}  {hit['text']:18}  {hit['similarity']:.3f}  {hit['image_id']}")
    print(json.dumps({"texts": len(RIGHT), "right_first": len(right), "right": right}))


if __name__ == "__main__":
    main()
