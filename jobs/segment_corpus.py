"""Photographs in, a corpus of searchable masks out: what `ray job submit` runs. See --help."""

import sys

from fastsam_batch.cli import job

if __name__ == "__main__":
    sys.exit(job("segment"))
