"""Exported segmenters: the same masks as torch gives, and refusals that say what to do."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from photographs import photographs
from pycocotools import mask as coco_mask

from fastsam_batch.cli import main
from fastsam_batch.errors import InputError
from fastsam_batch.models.exported import engine_forward, load_onnx
from fastsam_batch.models.exporter import export_segmenter
from fastsam_batch.models.network import load_module, read_header
from fastsam_batch.models.segmenter import Segmenter
from fastsam_batch.models.weights import find_segmenter, sha256_of

OUTPUTS = {"onnx": "small.onnx", "openvino": "small_openvino_model"}


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Both forms, made by the command; the summaries it printed are checked on the way."""
    folder = tmp_path_factory.mktemp("exports")
    for form, name in OUTPUTS.items():
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            assert main(["export-model", "--format", form, "--output", str(folder / name)]) == 0
        summary = json.loads(printed.getvalue().splitlines()[-1])
        assert summary["output"] == str(folder / name)
        assert summary["sha256"] == find_segmenter(str(folder / name)).sha256()
    return {form: folder / name for form, name in OUTPUTS.items()}


def same(expected, found):
    assert len(expected.rles) == len(found.rles) > 0
    np.testing.assert_allclose(expected.scores, found.scores, atol=1e-4)
    pairs = zip(expected.rles, found.rles, strict=True)
    assert min(float(coco_mask.iou([a.to_coco()], [b.to_coco()], [0])[0, 0]) for a, b in pairs) > 0.995


@pytest.mark.parametrize("form", OUTPUTS)
def test_agrees_with_torch(exports, form):
    images = [photographs()[name] for name in ("astronaut", "coffee", "chelsea")]  # three letterbox shapes
    images.append(images[1][::-1].copy())  # and a batch of two
    expected = Segmenter(find_segmenter("builtin").main).segment(images)
    segmenter = Segmenter(exports[form], batch_size=2)
    for a, b in zip(expected, segmenter.segment(images), strict=True):
        same(a, b)
    large = Segmenter(exports[form], imgsz=640).segment(images[:1])[0]
    same(Segmenter(find_segmenter("builtin").main, imgsz=640).segment(images[:1])[0], large)
    tiles = {"tile": 400, "overlap": 100}
    in_tiles = Segmenter(exports[form], batch_size=2, **tiles).segment(images[1:2])[0]
    same(Segmenter(find_segmenter("builtin").main, **tiles).segment(images[1:2])[0], in_tiles)


def test_openvino_takes_as_many_calls_as_there_are_workers(exports, monkeypatch):
    """With one stream all threads of an actor would wait for one core."""
    import openvino

    made = []

    class Core:
        def compile_model(self, *arguments):
            made.append(core.compile_model(*arguments))
            return made[-1]

    core = openvino.Core()
    monkeypatch.setattr(openvino, "Core", Core)
    image = photographs()["coffee"]
    alone = Segmenter(exports["openvino"]).segment([image])[0]
    segmenter = Segmenter(exports["openvino"], workers=2)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(segmenter.segment, [[image]] * 2):
            assert [rle.counts for rle in found[0].rles] == [rle.counts for rle in alone.rles]
    assert [network.get_property("NUM_STREAMS") for network in made] == [1, 2]
    assert not any(network.get_property("ENABLE_CPU_PINNING") for network in made)


@pytest.mark.parametrize("form", OUTPUTS)
def test_an_export_knows_its_weights(exports, form):
    path = exports[form]
    assert read_header(path) == read_header(find_segmenter("builtin").main)
    files = find_segmenter(str(path))
    assert files.sha256() == {part.name: sha256_of(part) for part in files.parts or (path,)}
    assert len(files.parts or (path,)) == (3 if form == "openvino" else 1)


def fixed_onnx(path, hw, outputs=2, predictions=None, batch=1, coefficients=32, pixels=None, kind="FLOAT"):
    """A network of nothing with one input size and batch, as other exporters make them."""
    import onnx
    from onnx import TensorProto, helper

    images = helper.make_tensor_value_info("images", getattr(TensorProto, kind), pixels or [batch, 3, *hw])
    anchors = sum((hw[0] // stride) * (hw[1] // stride) for stride in (8, 16, 32))
    of_masks = [batch, coefficients, hw[0] // 4, hw[1] // 4]
    shapes = [predictions or [batch, 5 + coefficients, anchors], of_masks][:outputs]
    made = [helper.make_tensor_value_info(f"output{i}", TensorProto.FLOAT, shape) for i, shape in enumerate(shapes)]
    nodes = [
        helper.make_node(
            "Constant",
            [],
            [f"output{i}"],
            value=helper.make_tensor(f"v{i}", TensorProto.FLOAT, shape, np.zeros(shape).ravel()),
        )
        for i, shape in enumerate(shapes)
    ]
    onnx.save(
        helper.make_model(
            helper.make_graph(nodes, "fixed", [images], made), opset_imports=[helper.make_opsetid("", 17)]
        ),
        path,
    )
    return path


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"stride": "x"}, "says stride 'x', not a whole number"),
        ({"stride": "0"}, "says stride '0'"),
        ({"stride": "[8, 16]"}, r"says stride '\[8, 16\]'"),
        ({"batch": "-1"}, "says batch '-1'"),
        ({"imgsz": "["}, "metadata cannot be read"),
        ({"fastsam_batch": "["}, "metadata cannot be read"),
        ({"fastsam_batch": "[" * 100_000}, "metadata cannot be read"),
    ],
)
def test_metadata_that_says_nothing_is_refused(tmp_path, metadata, message):
    import onnx

    path = fixed_onnx(tmp_path / "a.onnx", (64, 64))
    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata)
    onnx.save(model, path)
    with pytest.raises(InputError, match=message) as refused:
        read_header(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    if "stride" in metadata or "batch" in metadata:
        with pytest.raises(InputError, match=message):
            read_header(engine(tmp_path / "a.engine", metadata))


@pytest.mark.parametrize("text", ["task: [segment", "hello", "- a"])
def test_an_openvino_folder_with_odd_metadata_is_refused(exports, tmp_path, text):
    folder = tmp_path / "odd"
    shutil.copytree(exports["openvino"], folder)
    (folder / "metadata.yaml").write_text(text)
    with pytest.raises(InputError, match=r"odd/metadata\.yaml: .*export the network anew"):
        read_header(folder)


def test_weights_beside_an_onnx_network_are_part_of_it(exports, tmp_path):
    import onnx

    path = tmp_path / "a.onnx"
    onnx.save(onnx.load(exports["onnx"]), path, save_as_external_data=True, location="a.weights")
    before = find_segmenter(str(path)).sha256()
    assert before.keys() == {"a.onnx", "a.weights"}
    image = photographs()["coffee"]
    same(Segmenter(exports["onnx"]).segment([image])[0], Segmenter(path).segment([image])[0])
    weights = bytearray((tmp_path / "a.weights").read_bytes())
    weights[0] ^= 1
    (tmp_path / "a.weights").write_bytes(weights)
    assert find_segmenter(str(path)).sha256()["a.weights"] != before["a.weights"]
    (tmp_path / "a.weights").unlink()
    with pytest.raises(InputError, match=r"its weights are in a\.weights, which is not beside it"):
        find_segmenter(str(path))


def test_a_fixed_square_takes_images_of_any_shape(tmp_path):
    segmenter = Segmenter(fixed_onnx(tmp_path / "fixed.onnx", (320, 320)), batch_size=8)
    assert (segmenter.imgsz, segmenter.batch_size) == (320, 1)
    assert [found.rles for found in segmenter.segment(list(photographs().values()))] == [[]] * len(photographs())
    with pytest.raises(InputError, match=r"--imgsz 640: \S+ takes 320 only"):
        Segmenter(tmp_path / "fixed.onnx", imgsz=640)


def test_a_fixed_batch_takes_as_many_images_as_there_are(tmp_path):
    path = fixed_onnx(tmp_path / "fixed.onnx", (64, 64), batch=4)
    images = [photographs()["coffee"]] * 3
    for batch_size in (2, 8):
        segmenter = Segmenter(path, batch_size=batch_size)
        assert segmenter.batch_size == min(batch_size, 4)
        assert [found.rles for found in segmenter.segment([*images, *images])] == [[]] * 6
    network = load_onnx(path, torch.device("cpu"))
    assert [len(found) for found in network.forward(torch.zeros(3, 3, 64, 64))] == [3, 3]


def engine(path, header):
    data = json.dumps(header).encode()
    path.write_bytes(len(data).to_bytes(4, "little") + data + b"a program")
    return path


def test_an_engine_is_described_where_it_cannot_run(tmp_path):
    path = engine(tmp_path / "s.engine", {"task": "segment", "fastsam_batch": {"imgsz": 1024, "conf": 0.3}})
    assert read_header(path) == ({"imgsz": 1024, "conf": 0.3, "iou": 0.9}, "not stated in the weights")
    with pytest.raises(InputError, match="needs a CUDA device"):
        Segmenter(path)
    with pytest.raises(InputError, match="not an engine as Ultralytics"):
        read_header(engine(tmp_path / "t.engine", [1]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: fixed_onnx(folder / "a.onnx", (320, 416)), "fixed to 416 x 320"),
        (lambda folder: fixed_onnx(folder / "a.onnx", (320, 320), outputs=1), "1 inputs and 1 outputs"),
        # As Ultralytics exports with nms=True: the best 300, box, score and class before the coefficients.
        (lambda folder: fixed_onnx(folder / "a.onnx", (320, 320), predictions=[1, 300, 38]), "export it without NMS"),
        (lambda folder: fixed_onnx(folder / "a.onnx", (64, 64), coefficients=64), "has 64 mask coefficients"),
        (lambda folder: fixed_onnx(folder / "a.onnx", (64, 64), predictions=[1, 36, 84]), "not every anchor's box"),
        (lambda folder: fixed_onnx(folder / "a.onnx", (64, 64), predictions=[1, 37]), "not every anchor's box"),
        (lambda folder: fixed_onnx(folder / "a.onnx", (64, 64), pixels=[1, 1, 64, 64]), r"input is \[1, 1, 64, 64\]"),
        (lambda folder: fixed_onnx(folder / "a.onnx", (64, 64), pixels=[None, 64, 64]), r"is \[any, 64, 64\], not"),
        (lambda folder: fixed_onnx(folder / "a.onnx", (64, 64), kind="UINT8"), "fails on 64 x 64 pixels in float32"),
        (lambda folder: (folder / "a.onnx").write_bytes(b"no") and folder / "a.onnx", "not a readable ONNX"),
        (lambda folder: folder, "not an OpenVINO folder"),
        (lambda folder: (folder / "a.pb").write_bytes(b"no") and folder / "a.pb", "weights of an unknown kind"),
    ],
)
def test_refusals_are_one_sentence(tmp_path, make, message):
    with pytest.raises(InputError, match=message) as refused:
        Segmenter(make(tmp_path))
    assert "\n" not in str(refused.value)


def test_a_broken_openvino_network_is_refused(exports, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(exports["openvino"], folder)
    next(folder.glob("*.xml")).write_text("<net/>")
    with pytest.raises(InputError, match="not a readable OpenVINO"):
        Segmenter(folder)
    with pytest.raises(InputError, match="does not run on CUDA"):
        Segmenter(folder, device="cuda")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "onnx", "--output", "{}/a.pt"], "must end in .onnx"),
        (["--format", "onnx", "--output", "s3://bucket/a.onnx"], "s3://bucket/a.onnx: is an address"),
        (["--format", "openvino", "--output", "{}/a.xml"], "must name a folder"),
        (["--format", "openvino", "--output", "{}"], "other files in it"),
        (["--format", "onnx", "--output", "{}/a.onnx", "--half"], "--half"),
        (["--format", "onnx", "--output", "{}/a.onnx", "--imgsz", "100"], "multiple of 32"),
        (["--format", "onnx", "--output", "{}/a.onnx", "--imgsz", "32000"], "multiple of 32 from 32 to 8192"),
        (["--format", "onnx", "--output", "{}/a.onnx", "--segmenter", "{}/made.onnx"], "an export already"),
        pytest.param(
            ["--format", "engine", "--output", "{}/a.engine"],
            "CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is there"),
        ),
    ],
)
def test_export_model_refuses(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    fixed_onnx(tmp_path / "made.onnx", (320, 320))
    assert main(["export-model", *(argument.format(tmp_path) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


class AsTensorRT:
    """Has of Ultralytics' backend of an engine what can be had without a GPU: it reads its input from its address on,
    row by row, whatever its strides say, and writes every batch to the same outputs.
    """

    fp16 = False

    def __init__(self) -> None:
        self.module, _ = load_module(find_segmenter("builtin").main)
        self.outputs = [torch.empty(0), torch.empty(0)]

    def __call__(self, pixels):
        rows = pixels.as_strided(pixels.shape, torch.empty(pixels.shape, device="meta").stride())
        with torch.inference_mode():
            predictions, prototypes = self.module(rows)[0]
        for output, value in zip(self.outputs, (prototypes, predictions), strict=True):
            output.resize_(value.shape).copy_(value)
        return self.outputs


def test_an_engine_gets_rows_and_its_outputs_are_kept():
    images = [np.ascontiguousarray(photographs()["coffee"][::step]) for step in (1, -1)]
    segmenter = Segmenter(find_segmenter("builtin").main)
    expected = segmenter.segment(images)
    forward = engine_forward(AsTensorRT())
    segmenter.network = replace(segmenter.network, forward=lambda pixels, conf: forward(pixels))
    detected = segmenter.detect(images)  # both, before the masks of either
    for one, found in zip(expected, map(segmenter.masks, detected), strict=True):
        same(one, found)


def test_the_size_it_is_made_for_is_its_own(tmp_path):
    export_segmenter("builtin", "onnx", tmp_path / "a.onnx", imgsz=320)
    assert read_header(tmp_path / "a.onnx")[0] == {**read_header(find_segmenter("builtin").main)[0], "imgsz": 320}


@pytest.mark.parametrize("form", OUTPUTS)
def test_a_network_is_traced_with_one_image(tmp_path, monkeypatch, form):
    def run(name, module, settings):
        raise InputError(f"traced with {settings['batch']}")

    monkeypatch.setattr("fastsam_batch.models.exporter._run_exporter", run)
    with pytest.raises(InputError, match=r"^traced with 1$"):
        export_segmenter("builtin", form, tmp_path / OUTPUTS[form])


def test_an_export_takes_the_old_one_s_place_whole(exports, tmp_path, monkeypatch):
    output = tmp_path / "network"
    shutil.copytree(exports["openvino"], output)
    (output / "of-the-old-one").touch()
    monkeypatch.setattr("fastsam_batch.models.exporter._add_metadata", fail_to_write)
    with pytest.raises(RuntimeError):
        export_segmenter("builtin", "openvino", output)
    assert (output / "of-the-old-one").exists()
    monkeypatch.undo()
    export_segmenter("builtin", "openvino", output)
    assert not (output / "of-the-old-one").exists() and (output / "metadata.yaml").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["network"]


def fail_to_write(*_):
    raise RuntimeError("no more room")
