"""Muon for the convolutions, AdamW for the rest.

Method: Jordan 2024, "Muon"; the update of a weight matrix is its momentum, orthogonalised by a quintic
Newton-Schulz iteration, scaled to AdamW's usual size (Liu et al. 2025). In bfloat16 it runs on the matrix itself,
as Jordan's does; in float32 on the small Gram matrix, where every factor commutes, and touches the wide matrix twice:
less work, but without float32's digits small singular values are lost in the Gram matrix.

Large matrices are orthogonalised in blocks of rows, each by itself (as between the whole steps of "MuonBP", Khaled et
al. 2025): the work grows with the rows of a block, and with whole ones it was a quarter of a training step.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from fastsam_batch.models.precision import computes_in_bfloat16

_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS = 5
_RMS = 0.2
_ROWS = 128  # of a block


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix float32 [m, n]: each block of rows with about the same singular vectors and singular values near 1.

    Rows are those of the shorter side.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalised(matrix.T).T
    return torch.cat([_block_orthogonalised(block) for block in matrix.split(_ROWS)])


def _block_orthogonalised(wide: torch.Tensor) -> torch.Tensor:
    scaled = wide / (wide.norm() + 1e-7)
    if computes_in_bfloat16(wide.device):
        return _iterated(scaled.bfloat16()).to(wide.dtype)
    return _by_gram(scaled)


def _by_gram(wide: torch.Tensor) -> torch.Tensor:
    gram = wide @ wide.T
    identity = torch.eye(len(gram), device=gram.device)
    product = identity
    for _ in range(_ITERATIONS):
        factor = _A * identity + _B * gram + _C * (gram @ gram)
        product = factor @ product
        gram = factor @ gram @ factor
    return product @ wide


def _iterated(wide: torch.Tensor) -> torch.Tensor:
    for _ in range(_ITERATIONS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), wide, beta=_A)
    return wide


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay; for weights of two or more axes."""

    def __init__(
        self, parameters: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.05
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"]
                momentum.lerp_(parameter.grad, 1 - group["momentum"])
                ahead = torch.lerp(parameter.grad, momentum, group["momentum"])
                update = orthogonalised(ahead.reshape(len(ahead), -1)).reshape(ahead.shape)
                size = _RMS * max(len(ahead), ahead[0].numel()) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * size)


def optimisers(model: torch.nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Muon over the convolutions behind the first, AdamW over everything else that learns."""
    learns = [parameter for parameter in model.parameters() if parameter.requires_grad]
    convolutions = [p for p in learns if p.ndim == 4 and p.shape[1] > 3]
    rest = [p for p in learns if not (p.ndim == 4 and p.shape[1] > 3)]
    decayed = [p for p in rest if p.ndim > 1]
    plain = [p for p in rest if p.ndim <= 1]
    adam = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}], lr=lr, betas=(0.9, 0.98)
    )
    return [Muon(convolutions, lr), adam] if convolutions else [adam]
