"""The loop: scenes made as it goes, small ones first; stops and goes on where it was."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fastsam_batch.errors import InputError
from fastsam_batch.models.network import head_features
from training.loop import follow, mixed_precision, save_checkpoint, set_rate
from training.optimiser import optimisers
from training.segmenter.compose import Composer
from training.segmenter.foretell import Foreteller
from training.segmenter.loss import WEIGHTS, Batch, Loss
from training.segmenter.scene import targets

log = logging.getLogger("training.segmenter")

LONGEST_GRADIENT = 10.0
WARM_UP = 0.02  # share of the run in which the rate rises


@dataclass(frozen=True)
class Plan:
    """How long and how. Seconds of wall clock or steps, whichever is given; `sizes` are the scenes' sides in
    pixels, each until its share of the run; the rate falls to zero as a cosine from `constant` on; until
    `foretell` nothing but a teacher's features is learnt."""

    seconds: float | None = None
    steps: int | None = None
    batch: int = 8
    lr: float = 2e-3
    sizes: tuple[tuple[float, int], ...] = ((0.35, 256), (0.55, 320), (0.75, 416), (0.85, 480), (1.0, 640))
    constant: float = 0.3
    foretell: float = 0.0
    ema: float = 0.99
    save_every: float = 120.0
    report_every: float = 1500.0


def train(
    model: Any,
    composer: Composer,
    plan: Plan,
    folder: Path,
    *,
    foreteller: Foreteller | None = None,
    seed: int = 0,
    resume: bool = False,
    on_report: Callable[[torch.nn.Module, float], None] | None = None,
) -> tuple[Any, list[float]]:
    """Train `model` in place; returns its moving average and the loss of every step.

    `folder` gets `checkpoint.pt` every `plan.save_every` seconds and at the end; `on_report` gets the average
    and the progress every `plan.report_every` seconds. Raises InputError where a run with a `foreteller` is to go on
    without one, or the other way round.
    """
    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last).train()
    average = deepcopy(model).eval()
    loss_of = Loss(model)
    learning = torch.nn.ModuleList([model] if foreteller is None else [model, foreteller])
    steppers = optimisers(learning, plan.lr)
    generator = torch.Generator().manual_seed(seed)
    checkpoint, history, elapsed = folder / "checkpoint.pt", [], 0.0
    if resume and checkpoint.is_file():
        state = torch.load(checkpoint, map_location="cpu", weights_only=False)
        if (foreteller is None) != (state.get("foreteller") is None):
            raise InputError(
                f"{checkpoint}: its run was {'with' if foreteller is None else 'without'} --features; go on as it began"
            )
        model.load_state_dict(state["model"])
        if foreteller is not None:
            foreteller.load_state_dict(state["foreteller"])
        average.load_state_dict(state["average"])
        for stepper, saved in zip(steppers, state["optimisers"], strict=True):
            stepper.load_state_dict(saved)
        composer.rng.bit_generator.state = state["rng"]
        generator.set_state(state["generator"])
        history, elapsed = state["history"], state["elapsed"]
        log.info("going on from step %d", len(history))

    def keep() -> None:
        state = {
            "model": model.state_dict(),
            "foreteller": None if foreteller is None else foreteller.state_dict(),
            "average": average.state_dict(),
            "optimisers": [stepper.state_dict() for stepper in steppers],
            "rng": composer.rng.bit_generator.state,
            "generator": generator.get_state(),
            "history": history,
            "elapsed": elapsed,
        }
        save_checkpoint(checkpoint, state)

    saved_at = reported_at = before = time.monotonic()
    while True:
        now = time.monotonic()
        elapsed, before = elapsed + now - before, now
        progress = len(history) / plan.steps if plan.steps else elapsed / (plan.seconds or 1)
        if progress >= 1:
            break
        side = size_at(progress, plan)
        set_rate(steppers, plan.lr * rate_at(progress, plan))
        count = max(round(plan.batch * (plan.sizes[0][1] / side) ** 1.5), 4)
        if foreteller is not None and progress < plan.foretell:
            images = glimpses(composer, count, side, device)
            with mixed_precision(device):
                features = head_features(model, images)
            parts = {"foretold": foreteller(features, images)}
        else:
            batch = draw(composer, count, side, device)
            with mixed_precision(device):
                outputs = model(batch.images)
            parts = loss_of(outputs, batch, generator)
            if foreteller is not None:
                parts["foretold"] = foreteller(outputs["feats"], batch.images)
        loss = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
        for stepper in steppers:
            stepper.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning.parameters(), LONGEST_GRADIENT)
        for stepper in steppers:
            stepper.step()
        history.append(loss.item())
        follow(average, model, min(plan.ema, len(history) / (len(history) + 10)))
        if len(history) % 20 == 0:
            shown = " ".join(f"{name} {part.item():.3f}" for name, part in parts.items())
            mean = np.mean(history[-20:])
            log.info("%5.1f%% step %d %dpx %.0fs %.2f (%s)", 100 * progress, len(history), side, elapsed, mean, shown)
        if now - saved_at > plan.save_every:
            keep()
            saved_at = now
        if on_report is not None and now - reported_at > plan.report_every:
            on_report(average, progress)
            reported_at = now
    keep()
    return average, history


def draw(composer: Composer, count: int, side: int, device: torch.device) -> Batch:
    """So many new scenes of `side` pixels as a Batch on `device`."""
    scenes = [composer.scene(side) for _ in range(count)]
    made = [targets(scene.instances, side) for scene in scenes]
    numbers = np.repeat(np.arange(count), [len(scene.instances) for scene in scenes])
    return Batch(
        images=_images([scene.image for scene in scenes], device),
        of_image=torch.from_numpy(numbers).to(device),
        boxes=torch.from_numpy(np.concatenate([boxes for boxes, _ in made])).to(device),
        shares=torch.from_numpy(np.concatenate([shares for _, shares in made])).to(device),
        negatives=torch.tensor([scene.negatives for scene in scenes], dtype=torch.float32, device=device),
    )


def glimpses(composer: Composer, count: int, side: int, device: torch.device | str) -> torch.Tensor:
    """So many new images without labels, float32 [count, 3, side, side] on `device`: half of them scenes."""
    return _images([composer.scene(side).image if i % 2 else composer.glimpse(side) for i in range(count)], device)


def _images(pixels: list[NDArray[np.uint8]], device: torch.device | str) -> torch.Tensor:
    images = torch.from_numpy(np.stack(pixels)).to(device).permute(0, 3, 1, 2)
    return images.float().div(255).contiguous(memory_format=torch.channels_last)


def size_at(progress: float, plan: Plan) -> int:
    """Side of the scenes: small ones first, most is learnt from them at a third of the cost."""
    return next((side for until, side in plan.sizes if progress < until), plan.sizes[-1][1])


def rate_at(progress: float, plan: Plan) -> float:
    """Share of the learning rate."""
    if progress < WARM_UP:
        return (progress + 0.001) / (WARM_UP + 0.001)
    if progress < plan.constant:
        return 1.0
    return 0.5 + 0.5 * math.cos(math.pi * (progress - plan.constant) / (1 - plan.constant))
