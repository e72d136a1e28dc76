"""Every kind of good and bad file that a corpus holds, through decode_image."""

from __future__ import annotations

import io
import pickle
import re
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fastsam_batch.images import IMAGE_SUFFIXES, ImageError, decode_image


def shipped(package: str, path: str) -> bytes:
    return Path(find_spec(package).submodule_search_locations[0], path).read_bytes()


CHINA = shipped("sklearn", "datasets/images/china.jpg")
CHELSEA = shipped("skimage", "data/chelsea.png")


def test_every_kind_of_failure_is_in_the_table() -> None:
    root = Path(__file__).parents[1]
    sources = "".join(path.read_text() for path in (root / "fastsam_batch").rglob("*.py"))
    kinds = set(re.findall(r'(?:ImageError\(|error_kind=|kind, message = )"([a-z_]+)"', sources))
    table = (root / "docs" / "corpus.md").read_text().partition("| `error_kind` |")[2].partition("\n\n")[0]
    assert {"empty", "missing", "changed", "unreachable"} <= kinds <= set(re.findall(r"`([a-z_]+)`", table))


def encoded(image: Image.Image, image_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def photograph(size: tuple[int, int] = (90, 60)) -> Image.Image:
    resized = Image.open(io.BytesIO(CHELSEA)).convert("RGB").resize(size)
    return Image.fromarray(np.asarray(resized))  # pixels only: no colour profile to bloat small files


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"\x78\x9c") + chunk(b"IEND", b"")


def kind_of(data: bytes, **options) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data, **options)
    assert caught.value.message
    assert str(caught.value) == caught.value.message
    return caught.value.kind


@pytest.mark.parametrize(
    ("package", "path"),
    [
        ("sklearn", "datasets/images/china.jpg"),
        ("sklearn", "datasets/images/flower.jpg"),
        ("ultralytics", "assets/bus.jpg"),
        ("skimage", "data/rocket.jpg"),
        ("skimage", "data/astronaut.png"),
        ("skimage", "data/coins.png"),
    ],
)
def test_photographs_have_the_colours_opencv_reads(package, path):
    data = shipped(package, path)
    ours = decode_image(data)
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert ours.dtype == np.uint8
    assert ours.flags.writeable
    assert ours.flags.c_contiguous
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 2


def test_a_photograph_larger_than_one_strip_is_copied_whole():
    image = photograph((1700, 1301))
    np.testing.assert_array_equal(decode_image(encoded(image, "PNG")), np.asarray(image))


LOSSLESS = [
    ("PNG", {}),
    ("BMP", {}),
    ("PPM", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("WEBP", {"lossless": True}),
    ("JPEG2000", {}),
]
LOSSY = [("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("GIF", {}), ("AVIF", {})]


@pytest.mark.parametrize(("image_format", "options"), LOSSLESS)
def test_lossless_formats_give_the_very_pixels(image_format, options):
    image = photograph()
    np.testing.assert_array_equal(decode_image(encoded(image, image_format, **options)), np.asarray(image))


@pytest.mark.parametrize(("image_format", "options"), LOSSY)
def test_lossy_formats_give_nearly_the_pixels(image_format, options):
    if image_format == "AVIF" and ".avif" not in IMAGE_SUFFIXES:
        pytest.skip("this Pillow was built without AVIF")
    image = photograph()
    decoded = decode_image(encoded(image, image_format, **options))
    assert np.abs(decoded.astype(int) - np.asarray(image)).mean() < 8


@pytest.mark.parametrize("percent", range(0, 100, 10))
@pytest.mark.parametrize(("image_format", "options"), LOSSLESS + LOSSY)
def test_a_cut_file_is_never_taken_for_a_whole_one(image_format, options, percent):
    if image_format == "AVIF" and ".avif" not in IMAGE_SUFFIXES:
        pytest.skip("this Pillow was built without AVIF")
    data = encoded(photograph(), image_format, **options)
    expected = {"empty"} if percent == 0 else {"truncated"}
    if image_format == "TIFF" and "compression" in options:
        expected |= {"corrupt"}  # libtiff writes the directory last: a file without it tells nothing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow remarks on broken TIFF directories
        assert kind_of(data[: len(data) * percent // 100]) in expected


@pytest.mark.parametrize("percent", range(10, 100, 10))
def test_a_cut_photograph_is_truncated(percent):
    assert kind_of(CHINA[: len(CHINA) * percent // 100]) == "truncated"
    assert kind_of(CHELSEA[: len(CHELSEA) * percent // 100]) == "truncated"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        pytest.param(b"", "empty", id="empty"),
        pytest.param(b"a note, not a picture\n" * 50, "not_an_image", id="text"),
        pytest.param(b"\0" * 4096, "not_an_image", id="zeros"),
        pytest.param(b"<html><body>404</body></html>", "not_an_image", id="html"),
        pytest.param(b"PK\x03\x04" + b"\0" * 100, "not_an_image", id="zip"),
        pytest.param(b"%PDF-1.7\n" + b" " * 100, "unsupported", id="pdf"),
        pytest.param(b"\0\0\0\x18ftypheic" + b"\0" * 64, "unsupported", id="heic"),
        pytest.param(b"\0\0\0\x18ftyphevc" + b"\0" * 64, "unsupported", id="hevc"),
        pytest.param(encoded(photograph(), "TIFF")[:9] + b"\xff" * 5000, "corrupt", id="tiff directory"),
        pytest.param(png_header(8, 8), "truncated", id="png without pixels"),
        pytest.param(CHELSEA[:90_000] + b"\0" * 9_000 + CHELSEA[99_000:], "corrupt", id="zeroed block"),
    ],
)
def test_what_is_no_image_says_why(data, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert kind_of(data) == kind


def test_damage_inside_a_photograph_raises_nothing_but_image_errors():
    generator = np.random.default_rng(0)
    sources = [encoded(photograph(), name, **options) for name, options in LOSSLESS + LOSSY[:-1]]
    outcomes = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for data in sources:
            for _ in range(25):
                damaged = np.frombuffer(data, np.uint8).copy()
                at = generator.integers(0, len(damaged), 12)
                damaged[at] = generator.integers(0, 256, 12)
                try:
                    outcomes.add(decode_image(damaged.tobytes()).shape[2])
                except ImageError as error:
                    outcomes.add(error.kind)
    assert 3 in outcomes
    assert outcomes <= {3, "corrupt", "truncated", "not_an_image", "too_large", "unsupported"}


def test_the_suffix_is_not_asked():
    # decode_image sees bytes only: a PNG named .jpg is a PNG.
    assert decode_image(CHELSEA).shape == (300, 451, 3)


@pytest.mark.parametrize(
    ("data", "max_pixels"),
    [
        pytest.param(png_header(50_000, 50_000), 10**8, id="bomb"),
        pytest.param(png_header(2**31 - 1, 2**31 - 1), 10**8, id="largest png"),
        pytest.param(encoded(Image.new("1", (20_000, 20_000)), "TIFF", compression="group4"), 10**8, id="fax"),
        pytest.param(CHELSEA, 451 * 300 - 1, id="one pixel over"),
    ],
)
def test_too_many_pixels_are_refused_by_the_header(data, max_pixels):
    assert kind_of(data, max_pixels=max_pixels) == "too_large"


def test_the_limit_itself_is_allowed():
    assert decode_image(CHELSEA, max_pixels=451 * 300).shape == (300, 451, 3)


@pytest.mark.parametrize(("image_format", "options"), [("PNG", {}), ("WEBP", {}), ("GIF", {}), ("TIFF", {})])
def test_pillows_own_limit_does_not_fire_below_ours(monkeypatch, image_format, options):
    data = encoded(photograph(), image_format, **options)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(data).shape == (60, 90, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.parametrize("size", [(1, 1), (30_000, 2), (2, 30_000), (3, 1)])
def test_extreme_shapes(size):
    image = photograph(size)
    np.testing.assert_array_equal(decode_image(encoded(image, "PNG")), np.asarray(image))
    assert decode_image(encoded(image, "JPEG")).shape == (size[1], size[0], 3)


def test_orientation_is_applied_in_all_eight_cases():
    # Encode the stored raster that EXIF asks viewers to turn; upright pixels must come back.
    upright = photograph((40, 24))
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    for image_format in ("PNG", "TIFF", "WEBP"):
        for orientation, transpose in undo.items():
            stored = upright if transpose is None else upright.transpose(transpose)
            exif = Image.Exif()
            exif[0x0112] = orientation
            options = {"lossless": True} if image_format == "WEBP" else {}
            decoded = decode_image(encoded(stored, image_format, exif=exif, **options))
            np.testing.assert_array_equal(decoded, np.asarray(upright), f"{image_format} {orientation}")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_jpeg_equals_opencvs(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photograph((40, 24)), "JPEG", exif=exif)
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    ours = decode_image(data)
    assert ours.shape == theirs.shape == ((24, 40, 3) if orientation < 5 else (40, 24, 3))
    assert np.abs(ours.astype(int) - theirs).max() <= 2


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("with_exif", [False, True])
def test_what_xmp_says_turns_nothing(image_format, with_exif):
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    options = {"xmp": xmp}
    if image_format == "PNG":
        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    elif image_format == "TIFF":
        options = {"tiffinfo": {700: xmp}}
    if with_exif and image_format != "TIFF":
        options["exif"] = Image.Exif()
        options["exif"][0x010F] = "a maker, and no orientation"
    data = encoded(photograph((40, 24)), image_format, **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image_format == "TIFF" or image.getexif().get(0x0112) == 6  # or the test shows nothing
        assert b"Orientation" in data
    assert decode_image(data).shape == (24, 40, 3)


def test_a_broken_exif_block_does_not_lose_the_photograph():
    data = encoded(photograph(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert decode_image(data).shape == (60, 90, 3)


@pytest.mark.parametrize(
    ("mode", "colour", "image_format", "expected"),
    [
        pytest.param("L", 77, "PNG", (77, 77, 77), id="grey"),
        pytest.param("1", 1, "PNG", (255, 255, 255), id="one bit"),
        pytest.param("LA", (10, 0), "PNG", (255, 255, 255), id="grey, clear"),
        pytest.param("LA", (10, 255), "PNG", (10, 10, 10), id="grey, opaque"),
        pytest.param("RGBA", (200, 0, 0, 0), "PNG", (255, 255, 255), id="clear"),
        pytest.param("RGBA", (200, 0, 0, 255), "WEBP", (200, 0, 0), id="opaque"),
        pytest.param("RGBA", (200, 0, 0, 128), "PNG", (227, 127, 127), id="half"),
        pytest.param("CMYK", (0, 255, 255, 0), "TIFF", (255, 0, 0), id="cmyk tiff"),
        pytest.param("CMYK", (0, 255, 255, 0), "JPEG", (255, 0, 0), id="cmyk jpeg, adobe inverted"),
        pytest.param("I;16", 0x4D00, "PNG", (77, 77, 77), id="16 bit png"),
        pytest.param("I;16", 0x00FF, "PNG", (0, 0, 0), id="16 bit, dark"),
        pytest.param("I;16", 0x4DFF, "TIFF", (77, 77, 77), id="16 bit tiff"),
        pytest.param("I;16B", 0x4D00, "TIFF", (77, 77, 77), id="16 bit big-endian"),
        pytest.param("I", 77, "TIFF", (77, 77, 77), id="32 bit holding 8"),
        pytest.param("I", 0x4D00, "TIFF", (77, 77, 77), id="32 bit holding 16"),
        pytest.param("I", 0x4D00, "PPM", (77, 77, 77), id="16 bit pgm"),
        pytest.param("F", 0.5, "TIFF", (127, 127, 127), id="float, unit range"),
        pytest.param("F", 90.0, "TIFF", (90, 90, 90), id="float, byte range"),
        pytest.param("F", float("nan"), "TIFF", (0, 0, 0), id="float, nan"),
        pytest.param("F", 1e9, "TIFF", (0, 0, 0), id="float, flat and far"),
        pytest.param("YCbCr", (77, 128, 128), "TIFF", (77, 77, 77), id="ycbcr tiff"),
    ],
)
def test_modes(mode, colour, image_format, expected):
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encoded(Image.new(mode, (16, 16), colour), image_format, **options)
    decoded = decode_image(data)
    assert decoded.shape == (16, 16, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.abs(decoded.astype(int) - expected).max() <= 2


def test_sixteen_bit_colour_keeps_its_upper_byte():
    values = np.array([[[0x1234, 0x80FF, 0xFF00]]], np.uint16)
    data = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
    assert decode_image(data).tolist() == [[[0x12, 0x80, 0xFF]]]


@pytest.mark.parametrize("image_format", ["PNG", "GIF"])
def test_a_palette_with_a_clear_entry_is_laid_on_white(image_format):
    image = Image.new("P", (4, 2), 0)
    image.putpalette([0, 0, 200, 0, 200, 0])
    image.putpixel((3, 1), 1)
    decoded = decode_image(encoded(image, image_format, transparency=0))
    assert decoded[0, 0].tolist() == [255, 255, 255]
    assert decoded[1, 3].tolist() == [0, 200, 0]


def test_a_palette_with_partial_alpha_is_blended():
    image = Image.new("P", (2, 1), 0)
    image.putpalette([0, 0, 0, 0, 0, 0])
    image.putpixel((1, 0), 1)
    decoded = decode_image(encoded(image, "PNG", transparency=bytes([255, 55])))
    assert decoded[0].tolist() == [[0, 0, 0], [200, 200, 200]]


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_gives_its_first_frame(image_format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
    assert (decode_image(data) == (255, 0, 0)).all()


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(ImageError("truncated", "cut short")))
    assert (error.kind, error.message) == ("truncated", "cut short")


def test_threads_agree_with_one_thread():
    files = [CHINA, CHELSEA, encoded(photograph(), "WEBP"), encoded(photograph(), "GIF")] * 6
    alone = [decode_image(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(decode_image, files))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_suffixes_are_lower_case_and_readable():
    assert {
        ".jpg",
        ".jpeg",
        ".png",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
    } <= IMAGE_SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in IMAGE_SUFFIXES)
    assert set(Image.registered_extensions()) >= IMAGE_SUFFIXES


def test_threads_that_lift_pillows_limit_leave_each_other_alone(monkeypatch):
    data = encoded(photograph(), "WEBP")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with ThreadPoolExecutor(8) as pool:
        shapes = set(pool.map(lambda _: decode_image(data).shape, range(3000)))
    assert shapes == {(60, 90, 3)} and Image.MAX_IMAGE_PIXELS == 10
