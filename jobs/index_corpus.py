"""Build or renew a corpus's search index. See --help."""

import sys

from fastsam_batch.cli import job

if __name__ == "__main__":
    sys.exit(job("index"))
