"""Stored masks and their photographs in, the same corpus with another embedder's vectors out. See --help."""

import sys

from fastsam_batch.cli import job

if __name__ == "__main__":
    sys.exit(job("embed"))
