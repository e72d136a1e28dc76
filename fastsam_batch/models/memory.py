"""A device's memory, where it is too small: it says so in several ways, and what was tried is tried with less."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from numpy.typing import NDArray

T = TypeVar("T")
_SAID = (
    "out of memory",
    "ALLOC_FAILED",
    "Failed to allocate memory",
    # torch of a convolution (ATen/native/cudnn, Conv_v8.cpp and Conv_v7.cpp) where none of cuDNN's ways got the memory
    # that it works in: the errors that say so are swallowed there.
    "unable to find an engine to execute this computation",
    "Unable to find a valid cuDNN algorithm",
)


def out_of_memory(error: Exception) -> bool:
    """True of torch's own error, and of those of drivers and libraries that say so in words only."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(said in str(error) for said in _SAID)


class OnDevice:
    """A model on a device. `oom_retries`: how often the device's memory was too small for what was tried."""

    oom_retries = 0

    def _attempt(self, run: Callable[[], T], last_try: bool = False) -> T | None:
        """What `run` gives, in inference mode; None where memory is too small for it, unless it is the last try.

        The error is gone by then, which would keep the tensors of what failed alive.
        """
        try:
            with torch.inference_mode():
                return run()
        except Exception as error:  # ONNX Runtime's are no RuntimeError
            if last_try or not out_of_memory(error):
                raise
        self.oom_retries += 1
        torch.cuda.empty_cache()
        return None

    def _in_halves(self, run: Callable[[Any], T], batch: Sequence[Any] | NDArray[Any]) -> list[T]:
        """What `run` gives for a batch, or for its halves, quarters … in order, where memory is too small for more."""
        found = self._attempt(partial(run, batch), last_try=len(batch) == 1)
        if found is not None:
            return [found]
        half = len(batch) // 2
        return self._in_halves(run, batch[:half]) + self._in_halves(run, batch[half:])
