"""Text in, masks out: an exact search over a corpus. See --help."""

import sys

from fastsam_batch.cli import job

if __name__ == "__main__":
    sys.exit(job("search"))
