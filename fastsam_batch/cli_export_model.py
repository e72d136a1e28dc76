"""The export-model command: a segmenter for ONNX Runtime, OpenVINO or TensorRT."""

from __future__ import annotations

import argparse
from typing import Any


def export_model_options(parser: argparse.ArgumentParser) -> None:
    """Options of `fastsam-batch export-model`."""
    add = parser.add_argument
    add("--segmenter", default="builtin", help="builtin, FastSAM-s, FastSAM-x, or a .pt or .safetensors")
    add(
        "--format",
        required=True,
        choices=("onnx", "openvino", "engine"),
        help="engine: TensorRT, built on the kind of GPU it will run on",
    )
    add("--output", required=True, metavar="PATH", help="file.onnx, file.engine, or an OpenVINO folder")
    add("--imgsz", type=int, help="an engine's largest input; default: the weights' own, FastSAM 1024")
    add("--half", action="store_true", help="float16 inside an engine")


def export_model(arguments: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Run `fastsam-batch export-model`: its summary, and the exit code."""
    from pathlib import Path

    from fastsam_batch.errors import InputError
    from fastsam_batch.models.exporter import export_segmenter
    from fastsam_batch.storage import redact

    imgsz = arguments["imgsz"]
    if imgsz is not None and (not 32 <= imgsz <= 8192 or imgsz % 32):
        raise InputError(f"--imgsz {imgsz}: give a multiple of 32 from 32 to 8192")
    if "://" in arguments["output"]:
        told = redact(arguments["output"])
        raise InputError(f"--output {told}: is an address; export to a path on this machine, and copy it there")
    made = export_segmenter(
        arguments["segmenter"],
        arguments["format"],
        Path(arguments["output"]).expanduser(),
        imgsz=imgsz,
        half=arguments["half"],
    )
    print(f"written  {made.main}")
    print(f"use it   --segmenter {made.main}")
    summary = {
        "output": str(made.main),
        "format": arguments["format"],
        "sha256": made.sha256(),
    }
    return summary, 0
