"""Merged prototypes against Ultralytics' own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from ultralytics.nn.modules.block import Proto, Proto26

from fastsam_batch.models.merged import MergedPrototypes, merge_prototypes


def proto_of(channels, seed=0):
    """With biases as large as what the weights give, so that a border without them shows."""
    torch.manual_seed(seed)
    proto = Proto(5, channels, 3).eval().requires_grad_(False)
    for part in (proto.cv1, proto.cv2, proto.cv3):
        part.conv = nn.utils.fusion.fuse_conv_bn_eval(part.conv, part.bn)
        part.forward = part.forward_fuse
        part.conv.bias.normal_()
    proto.upsample.bias.normal_()
    return proto


@torch.inference_mode()
@pytest.mark.parametrize("height_width", [(2, 2), (2, 5), (7, 3), (16, 12)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_merged_prototypes_are_the_same(height_width, layout):
    proto, feature = proto_of(7), torch.randn(2, 5, *height_width).to(memory_format=layout)
    merged = MergedPrototypes(proto).to(memory_format=layout)
    found = merged(feature)
    assert found.shape == (2, 3, 2 * height_width[0], 2 * height_width[1])
    torch.testing.assert_close(found, proto(feature), atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_half_precision_is_of_the_merged_weights():
    proto, feature = proto_of(16), torch.randn(1, 5, 6, 6)
    expected = proto(feature)
    found = MergedPrototypes(proto).to(torch.bfloat16)(feature.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.1)


def test_prototypes_of_another_form_stay():
    head = nn.Module()
    head.proto = Proto26((4, 4, 4), 8, 3)
    merge_prototypes(head)
    assert type(head.proto) is Proto26
    head.proto = proto_of(4)
    merge_prototypes(head)
    assert type(head.proto) is MergedPrototypes
