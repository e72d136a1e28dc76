"""A segmenter in, a file for ONNX Runtime, OpenVINO or TensorRT out. See --help."""

import sys

from fastsam_batch.cli import job

if __name__ == "__main__":
    sys.exit(job("export-model"))
