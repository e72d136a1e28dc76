"""The embedder: crops as they are defined, any place weights come from, refusals in a sentence."""

from __future__ import annotations

import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from photographs import photographs
from PIL import Image
from pycocotools import mask as coco_mask
from safetensors.torch import save_file

from fastsam_batch.errors import InputError
from fastsam_batch.masks.rle import Rle
from fastsam_batch.models.crops import image_pyramid, mask_crop, merge_crops
from fastsam_batch.models.embedder import Embedder
from fastsam_batch.models.embedder_files import embedder_anywhere, find_embedder
from fastsam_batch.models.weights import BUILTIN_FOLDER, sha256_of

FILL = np.array([123, 117, 104], np.uint8)


@pytest.fixture(scope="module")
def embedder():
    return Embedder("builtin", batch_size=8)


def disc(height, width, cx, cy, radius):
    y, x = np.mgrid[:height, :width]
    mask = (x - cx) ** 2 + (y - cy) ** 2 <= radius**2
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return Rle((height, width), rle["counts"].decode()), coco_mask.toBbox(rle).astype(np.float32), mask


def test_masked_crop_removes_the_background_and_context_keeps_it():
    image = np.zeros((100, 160, 3), np.uint8)
    image[:] = (10, 200, 30)
    rle, box, mask = disc(100, 160, 80, 50, 30)
    image[mask] = (250, 0, 0)
    masked = mask_crop([image], rle, box, 64, FILL, "masked")
    assert (np.abs(masked[0, 0].astype(int) - FILL) <= 1).all()
    assert masked[32, 32].tolist() == [250, 0, 0]
    context = mask_crop([image], rle, box, 64, FILL, "context")
    assert context[1, 1].tolist() == [10, 200, 30]
    assert context[32, 32].tolist() == [250, 0, 0]
    # The margin makes the disc smaller in the context crop.
    assert (context[32, :, 0] > 200).sum() < (masked[32, :, 0] > 200).sum()


def test_an_oblong_mask_keeps_its_shape():
    image = np.full((100, 100, 3), 255, np.uint8)
    mask = np.zeros((100, 100), np.uint8, order="F")
    mask[40:50, 10:90] = 1
    rle = Rle((100, 100), coco_mask.encode(mask)["counts"].decode())
    crop = mask_crop([image], rle, np.array([10, 40, 80, 10], np.float32), 80, FILL, "masked")
    white = (crop == 255).all(2)
    assert abs(int(white.any(1).sum()) - 10) <= 1 and white.any(0).sum() == 80
    assert abs(int(np.flatnonzero(white.any(1)).mean()) - 40) <= 1


def test_at_the_border_the_object_stays_in_the_middle():
    image = np.full((60, 60, 3), 255, np.uint8)
    rle, box, _ = disc(60, 60, 5, 30, 10)  # cut by the left border
    crop = mask_crop([image], rle, box, 50, FILL, "context")
    assert (crop[:, 0] == FILL).all()  # outside the image
    assert (crop[25, 25] == 255).all()


@pytest.mark.parametrize("kind", ["masked", "context"])
@pytest.mark.parametrize("radius", [30, 101, 240, 390])
def test_a_crop_from_the_pyramid_is_the_crop_from_the_image(kind, radius):
    image = np.tile(photographs()["coffee"], (2, 2, 1))
    rle, box, _ = disc(*image.shape[:2], 611, 402, radius)
    whole = mask_crop([image], rle, box, 64, FILL, kind)
    from_level = mask_crop(image_pyramid(image, 64), rle, box, 64, FILL, kind)
    assert np.abs(whole.astype(int) - from_level).mean() < 3


@pytest.mark.parametrize("kind", ["masked", "context"])
@pytest.mark.parametrize(
    ("image_hw", "box"),
    [
        ((480, 640), (20, 479, 600, 1)),
        ((1200, 1000), (100, 1199, 800, 1)),
        ((1000, 1200), (1199, 100, 1, 800)),
        ((3000, 4000), (0, 2996, 4000, 4)),
    ],
)
def test_a_thin_mask_on_the_last_rows_or_columns_has_a_crop(image_hw, box, kind):
    """A level of the pyramid may end where it would begin."""
    image = np.full((*image_hw, 3), 255, np.uint8)
    x, y, width, height = box
    mask = np.zeros(image_hw, np.uint8, order="F")
    mask[y : y + height, x : x + width] = 1
    rle = Rle(image_hw, coco_mask.encode(mask)["counts"].decode())
    pyramid = image_pyramid(image, 80)
    assert len(pyramid) > 1
    crop = mask_crop(pyramid, rle, np.array(box, np.float32), 80, FILL, kind)
    assert crop.shape == (80, 80, 3) and (crop == 255).all(2).any()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(0, 2**31), st.sampled_from(["masked", "context"]))
def test_any_mask_gives_a_crop(height, width, seed, kind):
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < 0.2
    mask[rng.integers(height), rng.integers(width)] = True
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    box = coco_mask.toBbox(rle).astype(np.float32)
    crop = mask_crop([image], Rle((height, width), rle["counts"].decode()), box, 32, FILL, kind)
    assert crop.shape == (32, 32, 3) and crop.dtype == np.uint8


def test_embeddings_have_unit_length_whatever_the_batch(embedder):
    image = photographs()["coffee"]
    masks = [disc(*image.shape[:2], 300, 200, radius) for radius in (20, 60, 120)]
    boxes = np.stack([box for _, box, _ in masks])
    crops = list(embedder.crops_of(embedder.crop_source(image), [rle for rle, _, _ in masks], boxes, "both"))
    flat = np.stack([crop for of_mask in crops for crop in of_mask])
    assert flat.shape == (6, embedder.image_size, embedder.image_size, 3)
    vectors = embedder.embed_crops(np.concatenate([flat] * 4))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(vectors[:6], vectors[-6:], atol=1e-5)
    np.testing.assert_allclose(embedder.embed_crops(flat[:1])[0], vectors[0], atol=1e-5)
    merged = merge_crops(vectors[:6], 2)
    np.testing.assert_allclose(np.linalg.norm(merged, axis=1), 1, atol=1e-5)
    assert embedder.embed_crops(flat[:0]).shape == (0, embedder.dim)


def test_texts_and_images_share_a_space(embedder):
    texts = embedder.encode_texts(["a photo of a cat", "a photo of a kitten", "a photo of a motorcycle"])
    assert texts.shape == (3, embedder.dim)
    assert texts[0] @ texts[1] > texts[0] @ texts[2]


def test_a_folder_is_the_same_as_the_builtin(embedder, tmp_path):
    shutil.copytree(BUILTIN_FOLDER / "clip", tmp_path / "clip")
    for name in (str(tmp_path / "clip"), f"local-dir:{tmp_path / 'clip'}"):
        other = Embedder(name)
        np.testing.assert_array_equal(other.encode_texts(["a dog"]), embedder.encode_texts(["a dog"]))
        assert other.files.sha256() == embedder.files.sha256()
        assert other.licence == "AGPL-3.0"


def test_an_architecture_with_a_file_of_weights(tmp_path):
    torch.manual_seed(0)
    model = open_clip.create_model("RN50", precision="fp16")
    torch.save(model.state_dict(), tmp_path / "rn50.pt")
    files, name = find_embedder(f"RN50:{tmp_path / 'rn50.pt'}")
    assert name == "RN50" and files.sha256() == {"rn50.pt": sha256_of(tmp_path / "rn50.pt")}
    assert Embedder(f"RN50:{tmp_path / 'rn50.pt'}").dim == 1024


def test_a_tag_says_how_its_weights_see(tmp_path, monkeypatch):
    """SigLIP's and MobileCLIP's tags have their own means, and OpenAI's an activation that the architecture lacks."""
    of_model = config(tmp_path, {})
    settings = {"file": str(tmp_path / "open_clip_model.safetensors"), "quick_gelu": True}
    settings |= {"mean": (0.5, 0.4, 0.3), "std": (0.5, 0.6, 0.7), "interpolation": "bicubic", "resize_mode": "squash"}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", of_model)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny", {"mine": settings})
    model, _, preprocess = open_clip.create_model_and_transforms("tiny", "mine", force_quick_gelu=True)
    crop = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    embedder = Embedder("tiny:mine", precision="float32")
    with torch.inference_mode():
        image = model.eval().encode_image(preprocess(Image.fromarray(crop))[None], normalize=True)
        text = model.encode_text(open_clip.get_tokenizer("tiny")(["a cup"]), normalize=True)
    np.testing.assert_allclose(embedder.embed_crops([crop]), image.numpy(), atol=1e-5)
    np.testing.assert_allclose(embedder.encode_texts(["a cup"]), text.numpy(), atol=1e-5)
    assert embedder.fill_rgb.tolist() == [128, 102, 76]


def test_a_signed_address_is_told_without_its_signature(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTSAM_BATCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("fastsam_batch.models.embedder_files.local_copy", lambda uri, option: tmp_path / "w.pt")
    files, _ = find_embedder("RN50:https://host/w.pt?sig=SECRET")
    assert files.name == "RN50:https://host/w.pt"
    with pytest.raises(InputError, match="not builtin, none") as refused:
        find_embedder("NoSuch:https://host/w.pt?sig=SECRET")
    assert "SECRET" not in str(refused.value)


def test_paths_find_the_same_files_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip").mkdir()
    (tmp_path / "w.pt").touch()
    (tmp_path / "builtin").mkdir()  # not what the option means
    (tmp_path / "openai").touch()
    for name in ("clip", "local-dir:clip", str(tmp_path / "clip")):
        assert embedder_anywhere(name) == f"local-dir:{tmp_path / 'clip'}"
    assert embedder_anywhere("RN50:w.pt") == f"RN50:{tmp_path / 'w.pt'}"
    for name in ("builtin", "none", "hf-hub:a/b", "RN50:openai", "RN50:s3://b/w.pt", "RN50:https://host/w.pt?sig=1"):
        assert embedder_anywhere(name) == name


def broken_weights(folder):
    (folder / "open_clip_config.json").write_bytes((BUILTIN_FOLDER / "clip" / "open_clip_config.json").read_bytes())
    (folder / "open_clip_model.safetensors").write_bytes(b"no tensors")


def broken_config(folder):
    shutil.copytree(BUILTIN_FOLDER / "clip", folder, dirs_exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 3}}))


def config(folder, change):
    """A small model that open_clip builds, but for what is changed in it."""
    of_model = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "layers": 1, "width": 16, "head_width": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    model = open_clip.model.CLIP(**of_model)
    for part, values in change.items():
        of_model[part] |= values
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": of_model}))
    return of_model


class Runs:
    """Unpickled by an ordinary loader, this prints."""

    def __reduce__(self):
        return print, ("it runs",)


def saved(folder, value):
    config(folder, {})
    (folder / "open_clip_model.safetensors").unlink()
    if isinstance(value, torch.nn.Module):
        torch.jit.save(torch.jit.script(value), folder / "open_clip_pytorch_model.bin")
    else:
        torch.save(value, folder / "open_clip_pytorch_model.bin")


@pytest.mark.filterwarnings("ignore")  # TorchScript is on its way out
@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("nothing", None, "not builtin, none"),
        ("local-dir:{}", None, "holds no open_clip_config.json"),
        ("{}", broken_weights, "cannot be loaded"),
        ("{}", broken_config, "cannot be loaded"),
        ("{}", lambda f: config(f, {"text_cfg": {"hf_tokenizer_name": "a/b"}}), "needs the package transformers"),
        ("{}", lambda f: config(f, {"text_cfg": {"heads": 3}}), "cannot be loaded .AssertionError: embed_dim must"),
        ("{}", lambda f: saved(f, Runs()), "holds more than tensors, which is not run"),
        ("{}", lambda f: saved(f, torch.nn.Identity()), "holds more than tensors, which is not run"),
        ("{}", lambda f: saved(f, {}), "cannot be loaded .StopIteration"),
        ("{}", lambda f: saved(f, [1]), "cannot be loaded .AttributeError: 'list'"),
        (
            "{}",
            lambda f: saved(f, {}) or (f / "open_clip_pytorch_model.bin").write_bytes(b""),
            "cannot be loaded .EOFError",
        ),
        ("RN50:{}/none.pt", None, "no such file"),
        ("RN50:openia", None, "RN50:openia: no such file, and no tag of RN50, whose tags are: openai, "),
        ("hf-hub:nobody/nothing", None, "could not be downloaded"),
        ("ViT-B-32:openai", None, "could not be downloaded"),
    ],
)
def test_refusals_name_the_option(tmp_path, monkeypatch, name, make, message):
    monkeypatch.setitem(sys.modules, "transformers", None)  # as where it is not installed
    if make:
        make(tmp_path)
    name = name.format(tmp_path)
    with pytest.raises(InputError, match=message) as refused:
        Embedder(name)
    assert str(refused.value).startswith("--embedder")
    assert "\n" not in str(refused.value)


def test_a_hubs_model_has_the_tokenizer_that_it_names(tmp_path, monkeypatch):
    """SigLIP's, say: what is downloaded into the model's folder is its configuration and weights alone."""

    def from_pretrained(place, **_):
        raise OSError(f"no tokenizer at {place}")

    settings = config(tmp_path, {"text_cfg": {"hf_tokenizer_name": "org/tokens"}})
    transformers = SimpleNamespace(AutoTokenizer=SimpleNamespace(from_pretrained=from_pretrained))
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    monkeypatch.setattr("fastsam_batch.models.embedder_files._download_hub", lambda name: tmp_path)
    monkeypatch.setattr("open_clip.factory._get_hf_config", lambda *_, **__: {"model_cfg": settings})
    with pytest.raises(InputError, match="no tokenizer at org/tokens"):
        Embedder("hf-hub:org/model")
    with pytest.raises(InputError, match=f"no tokenizer at {tmp_path}"):
        Embedder(str(tmp_path))


def test_an_image_tower_of_no_square_is_refused(tmp_path):
    config(tmp_path, {})
    assert Embedder(str(tmp_path)).image_size == 32
    settings = json.loads((tmp_path / "open_clip_config.json").read_text())
    settings["model_cfg"]["vision_cfg"]["image_size"] = [16, 64]  # of as many patches
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="takes 64 x 16 pixels; name one that takes a square"):
        Embedder(str(tmp_path))


def test_many_texts_are_encoded_some_at_a_time(embedder, monkeypatch):
    texts = [f"a photo of {number} cups" for number in range(9)]
    together, sizes = embedder.encode_texts(texts), []
    tokenizer = embedder._tokenizer
    monkeypatch.setattr(embedder, "_tokenizer", lambda part: sizes.append(len(part)) or tokenizer(part))
    monkeypatch.setattr("fastsam_batch.models.embedder._TEXTS_AT_ONCE", 4)
    np.testing.assert_allclose(embedder.encode_texts(texts), together, atol=1e-5)
    assert sizes == [4, 4, 1]
    assert embedder.encode_texts([]).shape == (0, embedder.dim)
