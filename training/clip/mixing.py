"""Two named crops in one, which belongs to both names in part: few labels, less learnt by heart.

Yun et al., CutMix (ICCV 2019), and Zhang et al., mixup (ICLR 2018), half of the crops each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Mixed:
    """Crops float32 [n, 3, size, size]; `share` float32 [n] of each belongs to the name `first`, the rest to `second`.

    `first` and `second` int64 [n] are places in the bank.
    """

    crops: torch.Tensor
    first: torch.Tensor
    second: torch.Tensor
    share: torch.Tensor


def mixed(crops: torch.Tensor, names: torch.Tensor, count: int, generator: torch.Generator) -> Mixed:
    """`count` mixtures of crops float32 [n, 3, size, size] that have a name, int64 [n], -1 without one."""
    named = torch.nonzero(names >= 0)[:, 0].cpu()
    first, second = (named[torch.randint(len(named), (count,), generator=generator)] for _ in range(2))
    share = torch.rand(count, generator=generator)
    out = crops[first].clone()
    size = crops.shape[-1]
    for place in range(count):
        other = crops[second[place]]
        if place % 2:
            out[place].lerp_(other, 1 - share[place].item())
            continue
        side = round(size * (1 - share[place].item()) ** 0.5)
        top, left = (int(torch.randint(size - side + 1, (), generator=generator)) for _ in range(2))
        window = slice(top, top + side), slice(left, left + side)
        out[(place, slice(None), *window)] = other[(slice(None), *window)]
        share[place] = 1 - (side / size) ** 2
    return Mixed(out, names[first], names[second], share)
