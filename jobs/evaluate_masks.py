"""The experiments of the method's paper, each in one command: proposals, edges and more. See --help."""

import sys

from fastsam_batch.cli import job

if __name__ == "__main__":
    sys.exit(job("evaluate"))
