"""A new folder of labels, and the photographs that go with them."""

from __future__ import annotations

from PIL import Image

from fastsam_batch import storage
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.export.images import ExportImage
from fastsam_batch.images import ImageError, image_format
from fastsam_batch.search.pictures import png_bytes

# Formats that browsers and training code read as they are, by Pillow's name: few browsers show a TIFF.
_ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "bmp"}


class Folder:
    """A folder that an export fills. Raises InputError where something lies there already."""

    def __init__(self, uri: storage.Uri) -> None:
        self._uri = uri
        fs, path = storage.filesystem(uri)
        if fs.exists(path) and (fs.isfile(path) or fs.ls(path, detail=False)):
            raise InputError(f"{storage.redact(uri)} is not an empty folder; name a new one")

    def write(self, name: str, data: bytes) -> None:
        """Put a file at a path below the folder. Raises InputError where it cannot be written."""
        storage.write_result(storage.join(self._uri, name), data)

    def copy_photograph(self, image: ExportImage, stem: str) -> str:
        """Put an image's photograph at `stem`, with the ending of what it is, and return that name.

        The bytes are copied as they are; a format that training code may not know becomes PNG. Raises
        InputError where it cannot be read or is not the one that was segmented.
        """
        try:
            data = image.data()
            ending = _ENDINGS.get(image_format(data) or "")
            if ending is None:
                data, ending = png_bytes(Image.fromarray(image.photographs.decode(data))), "png"
        except OutageError as error:
            raise OutageError(f"the photograph of {image.image_id!r}, {storage.redact(image.uri)}: {error}") from error
        except (OSError, ImageError) as error:
            raise InputError(
                f"cannot copy the photograph of {image.image_id!r}, {storage.redact(image.uri)} ({error}); "
                "bring it back, or leave the photographs out with --images none, and export to a new folder"
            ) from error
        self.write(f"{stem}.{ending}", data)
        return f"{stem}.{ending}"
