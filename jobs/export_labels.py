"""A corpus's masks as labels: COCO, YOLO, Label Studio, SA-1B, CVAT. See --help."""

import sys

from fastsam_batch.cli import job

if __name__ == "__main__":
    sys.exit(job("export"))
