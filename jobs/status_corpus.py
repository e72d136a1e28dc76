"""How far a corpus is: done, failed, left, and the rate. See --help."""

import sys

from fastsam_batch.cli import job

if __name__ == "__main__":
    sys.exit(job("status"))
