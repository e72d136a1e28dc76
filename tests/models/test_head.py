"""The head where it is asked for, against Ultralytics' own head over all of every map."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from ultralytics.nn.tasks import SegmentationModel

from fastsam_batch.models import head as head_module
from fastsam_batch.models.head import Head
from fastsam_batch.models.network import head_features, load_module, load_network
from fastsam_batch.models.weights import BUILTIN_FOLDER

WEIGHTS = BUILTIN_FOLDER / "segmenter.safetensors"
CPU = torch.device("cpu")
EVERY_ANCHOR = -1.0


@pytest.fixture(params=["builtin", "yolo11n-seg.yaml", "yolo26n-seg.yaml"])
def weights(request, tmp_path):
    """YOLO11's scores come from another kind of branch; YOLO26 gives distances as they are and has a second branch."""
    if request.param == "builtin":
        return WEIGHTS
    torch.manual_seed(0)
    torch.save({"model": SegmentationModel(request.param, nc=3, verbose=False)}, tmp_path / "other.pt")
    return tmp_path / "other.pt"


def noise(count, height=96, width=160):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def theirs(weights, pixels):
    module, _ = load_module(weights)
    (predictions, prototypes), _ = module(pixels)
    return predictions, prototypes


@torch.inference_mode()
@pytest.mark.parametrize("share", [0.0, 0.6, 2.0])
def test_boxes_and_coefficients_where_a_score_passes_are_the_heads_own(weights, share, monkeypatch):
    monkeypatch.setattr(head_module, "DENSE", share)  # always whole maps, as it is, never
    pixels = noise(2)
    expected, prototypes = theirs(weights, pixels)
    scores = expected[:, 4:-32].amax(1)
    network = load_network(weights, CPU)
    for conf in (EVERY_ANCHOR, *scores.flatten().quantile(torch.tensor([0.5, 0.95, 0.995])).tolist(), 1.0):
        found, found_prototypes = network.forward(pixels, conf)
        torch.testing.assert_close(found_prototypes, prototypes, atol=1e-4, rtol=1e-4)
        for image in range(2):
            passing = expected[image][:, scores[image] > conf]
            torch.testing.assert_close(found[image], passing, atol=2e-3, rtol=1e-4)


@torch.inference_mode()
def test_a_gpu_is_given_all_anchors_at_once(weights):
    pixels = noise(2)
    module, _ = load_module(weights)
    head, features = Head(module.model[-1]), head_features(module, pixels)
    levels = [head._everywhere(level, feature) for level, feature in enumerate(features)]
    torch.testing.assert_close(torch.cat(levels, 2), theirs(weights, pixels)[0], atol=2e-3, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("cells", [[], [0], [6], [41], [0, 6, 35, 41, 20, 21]])
def test_corners_and_borders_are_padded_as_a_convolution_pads(cells, monkeypatch):
    monkeypatch.setattr(head_module, "DENSE", 2.0)
    head = load_module(WEIGHTS)[0].model[-1]
    feature = torch.randn(1, 64, 6, 7, generator=torch.Generator().manual_seed(2))
    around, places = Head(head)._around[0], torch.tensor(cells, dtype=torch.int64)
    for found, branch in zip(around.at(feature[0], places), (head.cv2[0], head.cv4[0]), strict=True):
        torch.testing.assert_close(found, branch(feature)[0].flatten(1)[:, places], atol=1e-4, rtol=1e-4)


def test_threads_with_inputs_of_several_sizes_do_not_meet():
    network = load_network(WEIGHTS, CPU)
    inputs = [noise(1, 96, 32 * side) for side in (2, 3, 4, 5)] * 4

    @torch.inference_mode()
    def found(pixels):
        return network.forward(pixels, 0.001)[0][0]

    expected = [found(pixels) for pixels in inputs]
    with ThreadPoolExecutor(4) as pool:
        assert all(map(torch.equal, pool.map(found, inputs), expected))


def test_branches_of_another_form_are_convolved_whole():
    head = load_module(WEIGHTS)[0].model[-1]
    assert all(Head(head)._around)
    head.cv2[1][0].conv.dilation = (2, 2)
    head.cv4[2][1].act = torch.nn.ReLU()
    assert [around is None for around in Head(head)._around] == [False, True, True]
