"""Folded batch norms: what may be folded, and that nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fastsam_batch.models.fold import fold_batch_norms


def seen(channels):
    """A batch norm as training leaves it."""
    norm = nn.BatchNorm2d(channels)
    for value in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
        nn.init.uniform_(value, 0.5, 2)
    return norm


class Net(nn.Module):
    def __init__(self, path):
        super().__init__()
        self.norm, self.first = seen(4), nn.Conv2d(3, 4, 3, bias=False)  # registered in the other order
        self.second, self.again = nn.Conv2d(4, 4, 3), seen(4)
        self.path = path

    def forward(self, pixels):
        return self.path(self, pixels)


def once(net, pixels):
    return net.again(net.second(torch.relu(net.norm(net.first(pixels)))))


def read_twice(net, pixels):
    features = net.first(pixels)
    return net.again(net.second(net.norm(features) + features))


def called_twice(net, pixels):
    features = net.norm(net.first(pixels))
    return net.again(net.second(net.again(net.second(features))))


def of_two_minds(net, pixels):
    return once(net, pixels) if pixels.sum() > 0 else net.first(pixels)


@pytest.mark.parametrize(("path", "folded"), [(once, 2), (read_twice, 1), (called_twice, 1), (of_two_minds, 0)])
def test_a_norm_is_folded_where_nothing_else_reads(path, folded):
    torch.manual_seed(0)
    net, pixels = Net(path).eval(), torch.rand(2, 3, 12, 12)
    before = copy.deepcopy(net)(pixels)
    assert fold_batch_norms(net) == folded
    assert sum(isinstance(module, nn.BatchNorm2d) for module in net.modules()) == 2 - folded
    torch.testing.assert_close(net(pixels), before)


def test_the_built_in_image_tower_has_none_left():
    from fastsam_batch.models.embedder import Embedder

    visual = Embedder("builtin")._model.visual
    assert not [module for module in visual.modules() if isinstance(module, nn.BatchNorm2d)]
