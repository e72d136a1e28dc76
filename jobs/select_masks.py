"""Points, boxes or a text on one image in, a mask out: from what is stored, without a model. See --help."""

import sys

from fastsam_batch.cli import job

if __name__ == "__main__":
    sys.exit(job("select"))
