"""The export command: a corpus's masks as labels for annotation tools and training."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from fastsam_batch.cli_options import CORPUS, TEXT_ENCODER, refuse_unused
from fastsam_batch.cli_progress import note_unfinished
from fastsam_batch.words import shown


def export_options(parser: argparse.ArgumentParser) -> None:
    """Options of `fastsam-batch export`."""
    add = parser.add_argument
    add("--corpus", **CORPUS)
    add(
        "--format",
        required=True,
        choices=("coco", "coco-results", "sa1b", "yolo", "label-studio", "cvat"),
        help="coco: one JSON of instances; coco-results: one JSON of scored masks; sa1b: a folder, a JSON an image; "
        "yolo: a folder of photographs, polygons and data.yaml; label-studio: a folder of tasks with predictions; "
        "cvat: .xml (CVAT for images 1.1) or .zip (COCO 1.0)",
    )
    add("--output", required=True, metavar="PATH", help="the file or folder to make")
    add(
        "--classes",
        metavar="FILE",
        help="YAML of saved queries or class names, as for label_masks; masks without a label are left out. "
        "Without it every mask is an object",
    )
    add("--embedder", **TEXT_ENCODER)
    add = parser.add_argument_group("masks (rules apply in this order, within one image)").add_argument
    add("--where", metavar="EXPR", help='only masks for which this holds, such as "stability >= 0.8"')
    add("--min-score", type=float, help="leave out masks with a lower score")
    add("--min-area", type=int, metavar="PIXELS", help="leave out smaller masks")
    add(
        "--duplicates",
        type=float,
        metavar="IOU",
        help="from the highest rank down, leave out masks whose IoU with one before, of the same label, reaches this",
    )
    add(
        "--nested",
        type=float,
        metavar="SHARE",
        help="leave out masks with at least this share of their pixels in one larger mask of the same label",
    )
    add("--top-n", type=int, metavar="N", help="of what is left, the N masks of each image that rank highest")
    add(
        "--rank-by",
        choices=("score", "stability", "product"),
        default="product",
        help="what ranks masks, and the score of coco-results: the box's confidence, the mask's stability, or both",
    )
    add = parser.add_argument_group("polygons").add_argument
    add("--shape", choices=("rle", "polygon"), help="default: polygon for yolo and label-studio, else rle")
    add(
        "--tolerance",
        type=float,
        metavar="PIXELS",
        help="simplify polygons by moving no point farther than this; default: 1 for label-studio, else 0",
    )
    add(
        "--min-piece",
        type=int,
        metavar="PIXELS",
        help="leave out holes, and parts beside a mask's largest, of fewer pixels; default: 16 for label-studio, "
        "else 0",
    )
    add(
        "--max-loss",
        type=float,
        metavar="LOSS",
        help="a mask whose polygon loses more (1 - IoU) stays RLE where the format has it, else it is left out",
    )
    add("--loss-report", metavar="FILE", help="the loss report as JSON; the summary holds it too")
    add = parser.add_argument_group("formats' own").add_argument
    add(
        "--images",
        choices=("copy", "none"),
        help="put the photographs into the folder of yolo, label-studio or sa1b; default: copy for yolo, else none",
    )
    add("--val-fraction", type=float, help="yolo: share of images for validation, by their image_id; default: 0.1")
    add(
        "--image-url",
        metavar="TEMPLATE",
        help="label-studio: where it finds photographs, made of {uri}, {image_id} and {file} (the copy's name); "
        "default: {uri}, or /data/local-files/?d=images/{file} with --images copy",
    )
    add("--ground-truth", metavar="FILE", help="coco-results: take image and category ids from this COCO file")


def export(arguments: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Run `fastsam-batch export`: its summary, and the exit code."""
    from fastsam_batch.corpus.read import Corpus
    from fastsam_batch.export.budget import Budget
    from fastsam_batch.export.run import Export, export_labels
    from fastsam_batch.storage import redact

    budget = Budget(
        min_score=arguments["min_score"],
        min_area=arguments["min_area"],
        duplicate_iou=arguments["duplicates"],
        nested_share=arguments["nested"],
        top_n=arguments["top_n"],
        rank_by=arguments["rank_by"],
    )
    corpus = Corpus.open(arguments["corpus"])
    labels: dict[str, Any] = {}
    if arguments["classes"]:
        from fastsam_batch.export.classes import labeller_of
        from fastsam_batch.search.classes import read_classes
        from fastsam_batch.search.find import corpus_encoder

        classes = read_classes(arguments["classes"])
        labels["categories"] = tuple(each.name for each in classes)
        labels["labeller"] = labeller_of(classes, corpus_encoder(corpus, arguments["embedder"]))
    else:
        refuse_unused(arguments, {"embedder": None}, "--classes")
    asked = Export(
        **labels,
        format=arguments["format"],
        output=arguments["output"],
        where=arguments["where"],
        budget=budget,
        shape=arguments["shape"],
        tolerance=arguments["tolerance"],
        min_piece=arguments["min_piece"],
        max_loss=arguments["max_loss"],
        loss_report=arguments["loss_report"],
        copy_images=None if arguments["images"] is None else arguments["images"] == "copy",
        val_fraction=arguments["val_fraction"],
        image_url=arguments["image_url"],
        ground_truth=arguments["ground_truth"],
    )
    summary = export_labels(corpus, asked)

    print(f"written  {redact(arguments['output'])}")
    print(f"images   {summary['images']:,} ({summary['failed_images']:,} failed ones left out)")
    print(f"masks    {summary['masks']:,}")
    for rule, count in summary["left_out"].items():
        print(f"         {count:,} left out by {rule.replace('_', ' ')}")
    if len(summary["labels"]) > 1:
        for name, count in summary["labels"].items():
            print(f"         {count:,} {name}")
    loss = summary["loss"]
    if loss and loss["masks"]:
        print(
            f"loss     mean IoU {loss['mean_iou']:.4f}, least {loss['min_iou']:.4f}, {loss['exact']:,} exact, "
            f"{loss['fallbacks']:,} kept as RLE, {loss['refused']:,} left out"
        )
        for case in loss["worst"][:5]:
            print(f"         {case['iou']:.4f}  {shown(case['image_id'])}  mask {case['mask_index']}")
    note_unfinished(corpus)
    for note in _notes(arguments, summary):
        print(f"note: {note}", file=sys.stderr)
    return summary, 0


def _notes(arguments: dict[str, Any], summary: dict[str, Any]) -> Iterator[str]:
    """What an export that went well still lacks to be of use, with the remedy."""
    if unopened := summary.get("unopened_images"):
        yield (
            f"Label Studio cannot open {unopened:,} of {summary['images']:,} photographs by the addresses in the "
            "tasks, for they are local or inside a tar or Parquet file; add --images copy, or say by --image-url "
            "where it finds them"
        )
    if summary.get("val") == 0 and summary["images"] and arguments["val_fraction"] != 0:
        yield "no image fell to validation, so that data.yaml names train for it; raise --val-fraction to hold some out"
    if arguments["format"] == "yolo" and arguments["images"] == "none":
        yield (
            "data.yaml names photographs that are not there, without which Ultralytics does not train; put each at "
            "images/SPLIT/NAME beside its labels/SPLIT/NAME.txt, as images.jsonl pairs them"
        )
