"""`python -m fastsam_batch COMMAND …`: the console command where its script is not on the path."""

import sys

from fastsam_batch.cli import main

if __name__ == "__main__":
    sys.exit(main())
