"""The pictures the page shows, as JPEG: made from the stored URIs on a few threads, kept in bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.images import ImageError
from fastsam_batch.search.pictures import ReadPixels, hit_picture, jpeg_bytes, read_photograph, scaled
from fastsam_batch.threads import available_cores
from fastsam_batch.web.cache import BoundedCache

THUMBNAIL_SIDE = 440
PHOTOGRAPH_SIDE = 2048
_QUALITY = 85
_JPEG_BYTES = 96 * 2**20
_THREADS = min(available_cores(), 8)
_PIXEL_BYTES = 256 * 2**20

T = TypeVar("T")


class Pictures:
    """Thumbnails, cards and photographs. A photograph's pixels stay for a while: several cards show the same one.

    `read` gives the pixels of a URI. At most _THREADS pictures are decoded at a time, whatever is asked for.
    """

    def __init__(self, read: ReadPixels) -> None:
        self._read = read
        self._jpegs: BoundedCache[bytes] = BoundedCache(_JPEG_BYTES, len)
        self._pixels: BoundedCache[NDArray[np.uint8]] = BoundedCache(_PIXEL_BYTES, lambda pixels: pixels.nbytes)
        # Its own threads: a thousand thumbnails must not keep a search waiting for one.
        self._pool = ThreadPoolExecutor(_THREADS, "pictures")

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def thumbnail(self, image: dict[str, Any]) -> bytes:
        """The photograph of an image's row, THUMBNAIL_SIDE on its long side at most. Raises InputError."""
        return await self._made(("thumbnail", image["image_id"]), lambda: _reduced(self.pixels(image), THUMBNAIL_SIDE))

    async def photograph(self, image: dict[str, Any]) -> bytes:
        """The photograph, PHOTOGRAPH_SIDE on its long side at most. Raises InputError."""
        key = ("photograph", image["image_id"])
        return await self._made(key, lambda: _reduced(self.pixels(image), PHOTOGRAPH_SIDE))

    async def card(self, image: dict[str, Any], mask: dict[str, Any]) -> bytes:
        """A tile around one mask (a row of masks), the mask lit. Raises InputError."""
        key = ("card", image["image_id"], mask["mask_index"])
        return await self._made(key, lambda: hit_picture(self.pixels(image), mask))

    async def run(self, make: Callable[[], T]) -> T:
        """What `make` gives, made on one of the picture threads and not kept."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, make)

    def pixels(self, image: dict[str, Any]) -> NDArray[np.uint8]:
        """The photograph of an image's row, uint8 RGB [H, W, 3]; to be called on one of the threads."""
        return self._pixels.get(image["image_id"], lambda: self._photograph(image))

    def _photograph(self, image: dict[str, Any]) -> NDArray[np.uint8]:
        try:
            return read_photograph(image, self._read)
        except (InputError, OutageError) as error:
            raise InputError(_told(image, error)) from error

    async def _made(self, key: tuple[Any, ...], draw: Callable[[], Image.Image]) -> bytes:
        return await self.run(lambda: self._jpegs.get(key, lambda: jpeg_bytes(draw(), _QUALITY)))


def _told(image: dict[str, Any], error: InputError | OutageError) -> str:
    """What `read_photograph` says, without the folders that the page's users need not see."""
    name, cause = f"the photograph of {image['image_id']!r}", error.__cause__
    if cause is None:  # it is another one, by its size
        return str(error)
    if isinstance(cause, FileNotFoundError):
        return f"{name} is no longer where it was; put it back to see it"
    reason = str(cause) if isinstance(cause, ImageError) else getattr(cause, "strerror", None)
    return f"{name} cannot be read{f': {reason}' if reason else ''}"


def _reduced(pixels: NDArray[np.uint8], long_side: int) -> Image.Image:
    picture = Image.fromarray(pixels)
    scale = long_side / max(picture.size)
    if scale >= 1:
        return picture
    return picture.resize(scaled(picture.width, picture.height, scale), Image.Resampling.LANCZOS, reducing_gap=2.0)
