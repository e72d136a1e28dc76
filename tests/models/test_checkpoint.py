"""Weights files: the official form loads, everything hostile or broken is refused and does not run."""

from __future__ import annotations

import io
import os
import pickle

import numpy as np
import pytest
import skimage.data
import torch
from reference.checkpoints import official_checkpoint
from safetensors.torch import load_file, save_file
from ultralytics.nn import tasks
from ultralytics.nn.tasks import DetectionModel, SegmentationModel, yaml_model_load

from fastsam_batch.errors import InputError
from fastsam_batch.models import checkpoint
from fastsam_batch.models.network import load_module, load_network
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import BUILTIN_FOLDER, find_segmenter, sha256_of

BUILTIN = BUILTIN_FOLDER / "segmenter.safetensors"
CPU = torch.device("cpu")


@pytest.mark.parametrize("half", [True, False])
def test_official_form_gives_the_masks_of_its_weights(tmp_path, half):
    path = official_checkpoint(tmp_path / "official.pt", half)
    options = {"imgsz": 416, "conf": 0.1, "iou": 0.7}
    image = skimage.data.coffee()
    (expected,) = Segmenter(BUILTIN, **options).segment([image])
    (found,) = Segmenter(path, **options).segment([image])
    assert [rle.counts for rle in found.rles] == [rle.counts for rle in expected.rles]
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_ema_is_preferred(tmp_path):
    path = official_checkpoint(tmp_path / "a.pt")
    loaded = torch.load(path, weights_only=False)
    loaded["ema"] = SegmentationModel("yolov8n-seg.yaml", nc=1, verbose=False)
    torch.save(loaded, path)
    expected = load_module(path)[0].state_dict()
    assert any(not torch.equal(value, load_module(BUILTIN)[0].state_dict()[name]) for name, value in expected.items())


def test_defaults_are_the_method_s_unless_the_weights_say_otherwise(tmp_path):
    assert load_network(official_checkpoint(tmp_path / "a.pt"), CPU).defaults == {
        "imgsz": 1024,
        "conf": 0.4,
        "iou": 0.9,
    }
    assert load_network(BUILTIN, CPU).defaults["imgsz"] == 640
    assert load_network(BUILTIN, CPU).licence == "AGPL-3.0"


class Runs:
    """Unpickled by an ordinary loader, this creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_getattr_is_inert():
    """The official form has a call of it, on a class; what it gives has no behaviour, as the class has none."""
    detect = b"cultralytics.nn.modules.head\nDetect\n"
    found = checkpoint._Unpickler(io.BytesIO(b"c__builtin__\ngetattr\n(" + detect + b"Vforward\ntR.")).load()
    assert isinstance(found, checkpoint._Shell) and found.state == {} and not callable(found)
    with pytest.raises(pickle.UnpicklingError, match=r"os\.system"):
        checkpoint._Unpickler(io.BytesIO(b"c__builtin__\ngetattr\n(cos\nsystem\nV__call__\ntR.")).load()


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
@pytest.mark.parametrize("name", ["PosixPath", "WindowsPath"])
def test_paths_of_any_system_and_python_are_inert(module, name):
    """A training on `data=Path(...)` keeps the path among its arguments."""
    found = checkpoint._Unpickler(io.BytesIO(f"c{module}\n{name}\n(Vdata.yaml\ntR.".encode())).load()
    assert isinstance(found, checkpoint._Shell)


class Calls:
    """Unpickled by an ordinary loader, this builds a network whose architecture runs code."""

    def __init__(self, path):
        code = f"__import__('os').mkdir({str(path)!r})"
        self.architecture = {
            "nc": 1,
            "activation": code,
            "backbone": [[-1, 1, "Conv", [8, 3, 2]]],
            "head": [],
        }

    def __reduce__(self):
        return SegmentationModel, (self.architecture,)


def with_architecture(tmp_path, change):
    path = official_checkpoint(tmp_path / "a.pt", half=False)
    loaded = torch.load(path, weights_only=False)
    change(loaded["model"].yaml)
    torch.save(loaded, path)
    return path


@pytest.mark.parametrize("place", ["beside", "inside"])
def test_malicious_pickle_does_not_run(tmp_path, place):
    marker = tmp_path / "ran"
    path = official_checkpoint(tmp_path / "a.pt")
    loaded = torch.load(path, weights_only=False)
    if place == "beside":
        loaded["extra"] = Runs(marker)
    else:
        loaded["model"].extra = Runs(marker)
    torch.save(loaded, path)
    torch.load(path, weights_only=False)
    assert marker.exists()  # the attack works on an ordinary loader
    marker.rmdir()
    with pytest.raises(InputError, match=r"mkdir, which is not on the allow-list"):
        load_module(path)
    assert not marker.exists()


def test_allowed_classes_are_not_called(tmp_path):
    marker = tmp_path / "ran"
    path = tmp_path / "a.pt"
    torch.save({"model": Calls(marker)}, path)
    with pytest.raises(InputError):
        load_module(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y.update(activation="__import__('os').getcwd()"), "activation"),
        (lambda y: y["backbone"][0].__setitem__(2, "torch.hub.load"), "layer name"),
        (lambda y: y["backbone"][0][3].__setitem__(0, "__import__('os')"), "not a plain value"),
        (lambda y: y.update(backbone=[], head=[]), "no layers"),
        (lambda y: y["backbone"][0].__setitem__(2, "NoSuchLayer"), "layer name"),
        (lambda y: y["backbone"][0].__setitem__(2, "TorchVision"), "layer name"),  # would download
        (lambda y: y["backbone"][0].__setitem__(2, "SegmentationModel"), "layer name"),
        (lambda y: y["backbone"][0].__setitem__(3, None), "not a plain value"),
        (lambda y: y.update(activation=[]), "activation"),
        (lambda y: y.update(backbone=5), "no list of layers"),
        (lambda y: y.update(backbone=["Conv"]), "a layer that is not"),
        (lambda y: y["backbone"][1].__setitem__(1, "None"), "cannot be built"),
        (lambda y: y.update(nc=7), "do not fit"),
    ],
)
def test_architectures_that_are_refused(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        load_module(with_architecture(tmp_path, change))


@pytest.mark.parametrize("name", ["check_requirements", "check_file", "torch_load", "yaml_model_load"])
def test_functions_that_ultralytics_has_at_hand_are_no_layers(tmp_path, monkeypatch, name):
    def change(architecture):
        architecture["backbone"][0] = [-1, 1, name, ["package"]]

    calls = []
    path = with_architecture(tmp_path, change)
    assert hasattr(tasks, name)
    monkeypatch.setattr(tasks, name, lambda *arguments: calls.append(arguments))
    with pytest.raises(InputError, match=f"layer name '{name}'"):
        load_module(path)
    assert not calls


class Program(torch.nn.Module):
    """Read by torch.jit.load, this prints."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def forward(self, pixels):
        return pixels + self.weight

    @torch.jit.export
    def __getstate__(self):
        return self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        self.weight, self.training = state
        print("it runs")


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_program_does_not_run(tmp_path, capfd):
    path = tmp_path / "a.pt"
    torch.jit.save(torch.jit.script(Program()), path)
    with pytest.raises(InputError, match="refused, it is a TorchScript program"):
        load_module(path)
    assert "it runs" not in capfd.readouterr().out


def detection(path):
    torch.save({"model": DetectionModel("yolov8n.yaml", nc=1, verbose=False)}, path)


def of_64_coefficients(path):
    architecture = yaml_model_load("yolov8n-seg.yaml")
    architecture["head"][-1][3] = ["nc", 64, 256]
    torch.save({"model": SegmentationModel(architecture, nc=1, verbose=False)}, path)


def truncated(path):
    whole = official_checkpoint(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.pt", lambda p: p.write_bytes(b"hello"), "not a PyTorch checkpoint"),
        ("a.pt", lambda p: p.write_bytes(pickle.dumps({"model": 1})), "not a PyTorch checkpoint"),
        ("a.pt", truncated, "not a"),
        ("a.pt", lambda p: p.write_bytes(b"before it" + official_checkpoint(p).read_bytes()), "not a PyTorch"),
        ("a.pt", lambda p: torch.save({"state": torch.zeros(3)}, p), "holds no Ultralytics network"),
        ("a.pt", lambda p: torch.save({"ema": torch.zeros(3), "model": None}, p), "holds no Ultralytics network"),
        ("a.pt", detection, "not a segmentation network"),
        ("a.pt", of_64_coefficients, "has 64 mask coefficients; pass a checkpoint of the usual 32"),
        ("a.safetensors", lambda p: p.write_bytes(b"hello"), "not a readable safetensors"),
        ("a.safetensors", lambda p: save_file({"x": torch.zeros(1)}, p), "architecture"),
        (
            "a.safetensors",
            lambda p: save_file(load_file(BUILTIN), p, metadata={"architecture": "http://x/yolov8n-seg.yaml"}),
            "is not one of",
        ),
        (
            "a.safetensors",
            lambda p: save_file(load_file(BUILTIN), p, metadata={"architecture": "yolov8s-seg.yaml"}),
            "do not fit",
        ),
        ("a.bin", lambda p: p.write_bytes(b"x"), "unknown kind"),
    ],
)
def test_files_that_are_refused(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(InputError, match=message) as refused:
        load_module(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("imgsz", "1000"), ("imgsz", "0"), ("imgsz", "large"), ("conf", "2"), ("iou", "nan"), ("classes", "one")],
)
def test_metadata_that_is_no_number_is_refused(tmp_path, name, value):
    path = tmp_path / "a.safetensors"
    save_file(load_file(BUILTIN), path, metadata={"architecture": "yolov8n-seg.yaml", name: value})
    with pytest.raises(InputError, match=f"a.safetensors: its metadata says {name} '{value}', not "):
        load_network(path, CPU)


def test_finding_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTSAM_BATCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "mine.safetensors"
    path.write_bytes(BUILTIN.read_bytes())
    assert find_segmenter(str(path)).sha256() == {"mine.safetensors": sha256_of(BUILTIN)}
    remote = find_segmenter(path.as_uri())
    assert remote.main.parent == tmp_path / "cache"
    assert sha256_of(remote.main) == sha256_of(BUILTIN)
    with pytest.raises(InputError, match="no such file, and not a name"):
        find_segmenter(str(tmp_path / "none.pt"))
    with pytest.raises(InputError, match="no such object"):
        find_segmenter((tmp_path / "none.pt").as_uri())


def test_weights_that_are_already_there_are_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTSAM_BATCH_CACHE", str(tmp_path))
    official_checkpoint(tmp_path / "FastSAM-s.pt")
    assert find_segmenter("FastSAM-s").main == tmp_path / "FastSAM-s.pt"
