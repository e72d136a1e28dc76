"""Segment everything in a corpus of images on Ray, embed every mask, find masks by text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Corpus", "__version__"]

if TYPE_CHECKING:
    from fastsam_batch.corpus.read import Corpus


def __getattr__(name: str) -> Any:
    # Imported on first use: `import fastsam_batch` must stay free of pyarrow and torch.
    if name == "Corpus":
        from fastsam_batch.corpus.read import Corpus

        return Corpus
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
