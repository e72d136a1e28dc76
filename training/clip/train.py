"""The loop: image tower against a locked text bank, small crops first; stops and goes on where it was."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.clip.batches import Sampler
from training.clip.features import Seer
from training.clip.losses import WEIGHTS, feature_loss, losses
from training.clip.model import as_input
from training.clip.text import TextBank
from training.loop import follow, mixed_precision, save_checkpoint, set_rate
from training.optimiser import optimisers

log = logging.getLogger("training.clip")

MAX_SCALE = 60.0
LONGEST_STEP = 20.0  # seconds of a step that count: a process that was paused did not train
WARM_UP, CONSTANT = 0.02, 0.5  # shares of the run: the rate rises, then stays, then falls to zero


_SIZES = ((0.5, 0.57), (0.8, 0.71), (2.0, 1.0))  # until this share of the run, this share of the last size


@dataclass(frozen=True)
class Plan:
    """How long and how: seconds or steps, whichever is given; `size` is that of the last crops, in pixels."""

    seconds: float | None = None
    steps: int | None = None
    batch: int = 160
    lr: float = 3e-3
    size: int = 112
    grow: bool = True  # small crops first; not from weights that know the last size
    ema: float = 0.99
    save_every: float = 180.0
    foretell: float = 0.0  # share of the run in which nothing is learnt but what another network sees


def train(
    model: torch.nn.Module,
    sampler: Sampler,
    bank: TextBank,
    plan: Plan,
    folder: Path,
    *,
    seed: int = 0,
    resume: bool = False,
    on_save: Callable[[torch.nn.Module, float], None] | None = None,
    teachers: Sequence[torch.nn.Module] = (),
    seer: Seer | None = None,
) -> tuple[torch.nn.Module, list[float]]:
    """Train `model` in place; returns its moving average, with the temperature it was trained to, and every loss.

    With `teachers`, models of the same space, it follows the mean of their vectors too. With a `seer`, for which the
    sampler must see, it learns to foretell what that sees in each crop.

    `folder` gets `checkpoint.pt` every `plan.save_every` seconds and at the end; `on_save` then gets
    the average and the progress.
    """
    device = next(model.parameters()).device
    model.to(memory_format=torch.channels_last).train()
    average = deepcopy(model).eval()
    scale = torch.nn.Parameter(torch.tensor(2.7, device=device))
    steppers = [*optimisers(model, plan.lr), torch.optim.Adam([scale], lr=plan.lr)]
    modules = {"model": model, "average": average}
    if seer is not None:
        foretell = torch.nn.Linear(model.visual.trunk.num_features, seer.width).to(device)
        steppers.append(torch.optim.Adam(foretell.parameters(), lr=plan.lr))
        modules["foretell"] = foretell
    generator = torch.Generator().manual_seed(seed)
    checkpoint, history, step, elapsed = folder / "checkpoint.pt", [], 0, 0.0
    if resume and checkpoint.is_file():
        state = torch.load(checkpoint, map_location="cpu", weights_only=False)
        for name, module in modules.items():
            module.load_state_dict(state[name])
        for stepper, saved in zip(steppers, state["optimisers"], strict=True):
            stepper.load_state_dict(saved)
        scale.data.copy_(state["scale"])
        sampler.rng.bit_generator.state = state["rng"]
        generator.set_state(state["generator"])
        history, step, elapsed = state["history"], state["step"], state["elapsed"]
        log.info("going on from step %d", step)

    def averaged() -> torch.nn.Module:
        average.logit_scale.data.copy_(scale.data.clamp(max=math.log(MAX_SCALE)))
        return average

    saved_at = began_at = time.monotonic()
    while True:
        now = time.monotonic()
        elapsed += min(now - began_at, LONGEST_STEP)
        began_at = now
        progress = step / plan.steps if plan.steps else elapsed / (plan.seconds or 1)
        if progress >= 1:
            break
        size = size_at(progress, plan.size) if plan.grow else plan.size
        set_rate(steppers, plan.lr * _rate(progress))
        count = batch_size(plan, size)
        if seer is not None and progress < plan.foretell:
            crops, seen = sampler.draw_seen(count, size)
            _, features = unit_vectors_and_features(model, _as_input(crops, device))
            parts = {"features": feature_loss(foretell(features), seer.features(seen))}
        else:
            batch = sampler.draw(count, size)
            crops = _as_input(batch.crops, device)
            vectors, features = unit_vectors_and_features(model, crops)
            taught = mean_vectors(teachers, crops) if teachers else None
            parts = losses(vectors, scale.exp().clamp(max=MAX_SCALE), batch, bank, generator, taught)
            if seer is not None:
                parts["features"] = feature_loss(foretell(features), seer.features(batch.seen))
        loss = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
        for stepper in steppers:
            stepper.zero_grad(set_to_none=True)
        loss.backward()
        for stepper in steppers:
            stepper.step()
        step += 1
        follow(average, model, min(plan.ema, step / (step + 10)))
        history.append(loss.item())
        if step % 20 == 0:
            shown = " ".join(f"{name} {part.item():.2f}" for name, part in parts.items())
            log.info(
                "%5.1f%% step %d %dpx %.0fs scale %.0f %s",
                100 * progress,
                step,
                size,
                elapsed,
                scale.exp().item(),
                shown,
            )
        if time.monotonic() - saved_at > plan.save_every:
            save_checkpoint(checkpoint, _state(modules, steppers, scale, sampler, generator, history, step, elapsed))
            if on_save is not None:
                on_save(averaged(), progress)
            saved_at = began_at = time.monotonic()
    save_checkpoint(checkpoint, _state(modules, steppers, scale, sampler, generator, history, step, elapsed))
    return averaged(), history


def unit_vectors_and_features(model: torch.nn.Module, crops: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors float32 [n, dim] of crops as the image tower takes them, and the features they are made of."""
    with mixed_precision(crops.device):
        features = model.visual.trunk(crops)
        vectors = model.visual.head(features)
    return torch.nn.functional.normalize(vectors.float(), dim=-1), features.float()


def unit_vectors(model: torch.nn.Module, crops: torch.Tensor) -> torch.Tensor:
    """Unit vectors float32 [n, dim] of crops as the image tower takes them."""
    return unit_vectors_and_features(model, crops)[0]


@torch.no_grad()
def mean_vectors(models: Sequence[torch.nn.Module], crops: torch.Tensor) -> torch.Tensor:
    """The mean of several models' unit vectors, of unit length again."""
    return torch.nn.functional.normalize(torch.stack([unit_vectors(model, crops) for model in models]).mean(0), dim=-1)


def _as_input(crops: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    return as_input(crops, device).contiguous(memory_format=torch.channels_last)


def batch_size(plan: Plan, size: int) -> int:
    """Fewer crops a step where they are larger, so that steps stay frequent."""
    return max(round(plan.batch * (size_at(0, plan.size) / size) ** 0.7), 8)


def size_at(progress: float, last: int) -> int:
    """Small crops first: most is learnt from them, at a third of the cost."""
    share = next(share for until, share in _SIZES if progress < until)
    return round(last * share / 16) * 16


def _rate(progress: float) -> float:
    if progress < WARM_UP:
        return (progress + 0.001) / (WARM_UP + 0.001)
    return min(1.0, (1 - progress) / (1 - CONSTANT)) + 0.002


def _state(
    modules: Mapping[str, torch.nn.Module],
    steppers: list[torch.optim.Optimizer],
    scale: torch.Tensor,
    sampler: Sampler,
    generator: torch.Generator,
    history: list[float],
    step: int,
    elapsed: float,
) -> dict[str, Any]:
    return {
        **{name: module.state_dict() for name, module in modules.items()},
        "optimisers": [stepper.state_dict() for stepper in steppers],
        "scale": scale.detach(),
        "rng": sampler.rng.bit_generator.state,
        "generator": generator.get_state(),
        "history": history,
        "step": step,
        "elapsed": elapsed,
    }
