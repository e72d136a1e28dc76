"""Saved queries in, a label or none for every mask out. See --help."""

import sys

from fastsam_batch.cli import job

if __name__ == "__main__":
    sys.exit(job("label"))
