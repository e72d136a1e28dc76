"""What pulls an image vector to its words, and a word to its images."""

from __future__ import annotations

import torch
from torch.nn.functional import cosine_similarity, cross_entropy, log_softmax

from training.clip.batches import Batch
from training.clip.text import TextBank

WEIGHTS = {
    "bank": 1.0,
    "coco": 0.5,
    "images": 0.7,
    "noun images": 0.2,
    "captions": 0.5,
    "nouns": 0.7,
    "found": 0.5,
    "cosine": 0.3,
    "teachers": 3.0,
    "features": 2.0,
}
OTHER_CAPTIONS = 512
UNNAMED = 0.05  # how likely a found mask is none of its captions' nouns, at least


def losses(
    vectors: torch.Tensor,
    scale: torch.Tensor,
    batch: Batch,
    bank: TextBank,
    generator: torch.Generator,
    taught: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Each loss of unit vectors [n, dim], a scalar; only those whose crops the batch has.

    bank: cross-entropy over all names with soft targets. coco: over the 80 COCO names; background is to be
    like all of them equally little. images: from each name of the batch to its crops. captions: to a
    photograph's own captions among others. nouns: over all names, the captions' shared alike. found: a mask to any of
    the captions' nouns that it may be. cosine: to the name's own vector. teachers: to `taught`, unit vectors
    [n, dim] that other models give the same crops.
    """
    device = vectors.device
    names = torch.from_numpy(batch.names).to(device)
    named = names >= 0
    logits = scale * (vectors @ bank.vectors.T)
    log_shares = log_softmax(logits, 1)
    out: dict[str, torch.Tensor] = {}
    if named.any():
        targets = bank.soft[names[named]]
        out["bank"] = -(targets * log_shares[named]).sum(1).mean()
        out["cosine"] = (1 - (vectors[named] * bank.vectors[names[named]]).sum(1)).mean()
    coco = torch.from_numpy(batch.coco).to(device)
    background = torch.from_numpy(batch.background).to(device)
    if coco.any():
        of_coco = logits[:, bank.coco]
        out["coco"] = cross_entropy(of_coco[coco], names[coco], label_smoothing=0.05)
        if background.any():
            out["coco"] = out["coco"] - 0.1 * log_softmax(of_coco[background], 1).mean()
    allowed = torch.zeros_like(logits, dtype=torch.bool)
    for row, nouns in enumerate(batch.nouns):
        allowed[row, torch.from_numpy(nouns).to(device)] = True
    if named.any():
        out["images"], out["noun images"] = _to_images(logits, names, allowed, bank)
    with_nouns = allowed.any(1)
    of_masks = (torch.from_numpy(batch.found).to(device) | named) & with_nouns
    whole = with_nouns & ~of_masks
    if of_masks.any():
        likely = (log_shares[of_masks].exp() * allowed[of_masks]).sum(1)
        out["found"] = -torch.log(UNNAMED + (1 - UNNAMED) * likely).mean()
    if whole.any():
        shared = allowed[whole].float()
        shared = (shared / shared.sum(1, keepdim=True)) @ bank.soft
        out["nouns"] = -(shared * log_shares[whole]).sum(1).mean()
    captioned = [row for row, captions in enumerate(batch.captions) if len(captions)]
    if captioned:
        out["captions"] = _to_captions(vectors, scale, captioned, batch, bank, generator)
    if taught is not None:
        out["teachers"] = (1 - (vectors * taught).sum(1)).mean()
    return out


def feature_loss(foretold: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """One less the cosine of what is foretold [n, d] with what another network sees [n, d]: a scalar."""
    return (1 - cosine_similarity(foretold, features)).mean()


def _to_images(
    logits: torch.Tensor, names: torch.Tensor, allowed: torch.Tensor, bank: TextBank
) -> tuple[torch.Tensor, torch.Tensor]:
    """From a name to its crops among all of the batch, for the labels' names and for the captions' nouns.

    `allowed` bool [n, names] has the nouns of crops without a label. Left out beside a name's own are crops of
    names near it and of photographs whose captions may mean it; what else there is, background too, is not it.
    A noun of a caption is in some of the photograph's crops, so theirs count together.
    """
    named = names >= 0
    labels = torch.zeros_like(allowed)
    labels[named, names[named]] = True
    alike = (labels.float() @ bank.near.float() + allowed.float() @ bank.maybe.float()) > 0
    scores = logits.T

    present = labels.any(0)
    positive = labels.T[present]
    log_shares = log_softmax(scores[present].masked_fill(alike.T[present] & ~positive, float("-inf")), 1)
    of_labels = -(log_shares.masked_fill(~positive, 0).sum(1) / positive.sum(1)).mean()

    present = allowed.any(0)
    positive = (allowed | labels).T[present]
    every = scores[present].masked_fill(alike.T[present] & ~positive, float("-inf")).logsumexp(1)
    some = scores[present].masked_fill(~positive, float("-inf")).logsumexp(1)
    return of_labels, (every - some).mean() if present.any() else of_labels.new_zeros(())


def _to_captions(
    vectors: torch.Tensor,
    scale: torch.Tensor,
    captioned: list[int],
    batch: Batch,
    bank: TextBank,
    generator: torch.Generator,
) -> torch.Tensor:
    own = torch.cat([torch.from_numpy(batch.captions[row]) for row in captioned])
    owner = torch.cat([torch.full((len(batch.captions[row]),), i) for i, row in enumerate(captioned)])
    others = torch.randint(len(bank.captions), (OTHER_CAPTIONS,), generator=generator)
    others = others[~torch.isin(others, own)]
    columns = torch.cat([own, others]).to(vectors.device)
    scores = scale * (vectors[captioned] @ bank.captions[columns].T)
    positive = torch.zeros(scores.shape, dtype=torch.bool)
    positive[owner, torch.arange(len(own))] = True
    log_shares = log_softmax(scores, 1).masked_fill(~positive.to(scores.device), 0)
    return -(log_shares.sum(1) / positive.sum(1).to(scores.device)).mean()
