"""A page to search a corpus by words, points and boxes, and to pick what to keep. See --help."""

import sys

from fastsam_batch.cli import job

if __name__ == "__main__":
    sys.exit(job("serve"))
