"""Is a corpus whole? Exit 0 only if all holds. See --help."""

import sys

from fastsam_batch.cli import job

if __name__ == "__main__":
    sys.exit(job("verify"))
