"""What the training commands have in common at their ends: threads, a log, and a sentence for bad input."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

import cv2
import torch

from fastsam_batch.errors import InputError


def told(run: Callable[[argparse.Namespace], object], options: argparse.Namespace) -> int:
    """Run a command on `options.threads` threads; exit status 2 with a sentence for input that cannot be used."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    try:
        run(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
