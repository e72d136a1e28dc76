"""Options of the main job, typed and checked before Ray starts."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fastsam_batch.errors import InputError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# Options that change rows: they make the fingerprint, together with the weights.
RESULT_OPTIONS = ("imgsz", "conf", "iou", "max_masks", "min_area", "crop", "max_pixels")
# Later ones, named in a corpus only where they differ from this, so that older corpora can still be added to.
LATER_OPTIONS: dict[str, Any] = {
    "embedding_mode": "crop",
    "tile": None,
    "overlap": None,
    "precision": "auto",
    "uri_column": "uri",
    "id_column": "image_id",
}

_BOUNDS = ("ge", "gt", "le", "lt", "multiple_of", "min_length")


class SegmentOptions(BaseModel):
    """Everything `segment_corpus` can be told. None means: the weights' or the machine's own default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: str = Field(min_length=1)
    output: str = Field(min_length=1)
    segmenter: str = Field("builtin", min_length=1)
    embedder: str = Field("builtin", min_length=1)
    imgsz: int | None = Field(None, ge=32, le=8192, multiple_of=32)
    conf: float | None = Field(None, gt=0, lt=1)
    iou: float | None = Field(None, gt=0, le=1)
    max_masks: int = Field(300, ge=1, le=10_000)
    min_area: int = Field(100, ge=0)
    tile: int | None = Field(None, ge=64)
    overlap: int | None = Field(None, ge=0)
    crop: Literal["masked", "context", "both"] = "both"
    embedding_mode: Literal["crop", "pool"] = "crop"
    max_pixels: int = Field(100_000_000, ge=1)
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    unit_size: int = Field(128, ge=1, le=10_000)
    batch_size: int | None = Field(None, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    actors: str | None = None
    gpus_per_actor: float = Field(1.0, gt=0, le=1)  # an actor runs on one
    limit: int | None = Field(None, ge=1)
    decode_seconds: float = Field(60.0, gt=0, le=86_400)
    record_unreachable: bool = False
    max_failed_fraction: float = Field(1.0, ge=0, le=1)
    bytes_column: str = "bytes"
    uri_column: str = "uri"
    id_column: str = "image_id"
    verbose: bool = False

    @field_validator("input", "output", "segmenter", "embedder", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    @model_validator(mode="before")
    @classmethod
    def _crop_of_the_mode(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("crop") is not None:
            return values
        # What is not pooled is seen once: measured, a second crop brings nothing there (docs/speed.md).
        return {**values, "crop": "masked" if values.get("embedding_mode") == "pool" else "both"}

    @field_validator("actors")
    @classmethod
    def _actors_are_a_range(cls, value: str | None) -> str | None:
        if value is not None:
            numbers = re.fullmatch(r"([1-9]\d*)(?::([1-9]\d*))?", value)
            if not numbers or int(numbers[1]) > int(numbers[2] or numbers[1]):
                raise ValueError("give a number of 1 or more, or two as MIN:MAX with MIN <= MAX")
        return value

    @model_validator(mode="after")
    def _overlap_fits(self) -> SegmentOptions:
        if self.overlap is not None:
            if self.tile is None:
                raise ValueError(f"--overlap {self.overlap}: there are no tiles without --tile")
            if 2 * self.overlap > self.tile:
                raise ValueError(f"--overlap {self.overlap}: give at most half of --tile {self.tile}")
        return self

    @model_validator(mode="after")
    def _device_has_precision(self) -> SegmentOptions:
        if self.precision == "float16" and self.device == "cpu":
            raise ValueError("--precision float16: is for GPUs; with --device cpu use bfloat16 or auto")
        return self

    def tiling(self) -> dict[str, int | None]:
        """`tile` and `overlap` in pixels, the overlap a quarter of the tile where it is not given."""
        overlap = self.tile // 4 if self.tile is not None and self.overlap is None else self.overlap
        return {"tile": self.tile, "overlap": overlap}

    def actor_range(self, default: int) -> tuple[int, int]:
        """Smallest and largest size of the actor pool."""
        low, _, high = (self.actors or str(default)).partition(":")
        return int(low), int(high or low)


def segment_options(values: dict[str, Any]) -> SegmentOptions:
    """Checked options. Raises InputError: one sentence a wrong option, naming it."""
    try:
        return SegmentOptions(**values)
    except ValidationError as error:
        problems = [f"{_option(problem)}{_remedy(problem)}" for problem in error.errors()]
        raise InputError("; ".join(problems)) from error


def _remedy(problem: ErrorDetails) -> str:
    """What to give instead; our own validators say so themselves."""
    if problem["type"] == "extra_forbidden":
        return "there is no such option"
    field = SegmentOptions.model_fields.get(str(problem["loc"][0])) if problem["loc"] else None
    rules = field.metadata if field else []
    bounds = {name: getattr(rule, name) for rule in rules for name in _BOUNDS if hasattr(rule, name)}
    if not bounds:
        return problem["msg"].removeprefix("Value error, ").replace("Input should be", "give")
    if "min_length" in bounds:
        return "name one"
    if bounds.keys() == {"ge"}:
        return f"give {bounds['ge']} or more"
    what = f"a multiple of {bounds['multiple_of']}" if "multiple_of" in bounds else "a number"
    if "ge" in bounds:
        return f"give {what} from {bounds['ge']} to {bounds['le']}"
    most = f"below {bounds['lt']}" if "lt" in bounds else f"at most {bounds['le']}"
    return f"give {what} above {bounds['gt']} and {most}"


def _option(problem: ErrorDetails) -> str:
    """The option and what it was given; nothing of several that are wrong together, which the message names."""
    name = ".".join(map(str, problem["loc"])).replace("_", "-")
    return f"--{name} {problem['input']}: " if name else ""
