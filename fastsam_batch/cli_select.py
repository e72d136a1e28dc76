"""The select command: prompts on one image's stored masks."""

from __future__ import annotations

import argparse
from typing import Any

from fastsam_batch.cli_options import CORPUS, SEVERAL, TEXT_ENCODER, refuse_unused
from fastsam_batch.words import shown

_TOP_K = 1


def select_options(parser: argparse.ArgumentParser) -> None:
    """Options of `fastsam-batch select`."""
    add = parser.add_argument
    add("--corpus", **CORPUS)
    add("--image", required=True, metavar="ID", help="image_id, as the corpus's images table has it")
    add(
        "--output",
        required=True,
        metavar="FILE",
        **SEVERAL,
        help="the union's RLE and the masks as .json, the photograph with the union lit as .png, or both",
    )
    add = parser.add_argument_group("prompts (in pixels of the image; any number, together one selection)").add_argument
    add("--point", metavar="X,Y", help="add every mask around this point", **SEVERAL)
    add(
        "--background",
        metavar="X,Y",
        help="clear masks around this point, not smaller selected ones in them",
        **SEVERAL,
    )
    add("--box", metavar="X1,Y1,X2,Y2", help="add the mask that overlaps this box best", **SEVERAL)
    add("--text", help="add the mask that looks most like this text", **SEVERAL)
    add("--smallest", action="store_true", help="a point adds the smallest mask around it only")
    add("--top-k", type=int, default=_TOP_K, help="masks a text at most")
    add("--min-score", type=float, help="a text adds no mask whose cosine with it is lower")
    add("--embedder", **TEXT_ENCODER)
    add("--smooth", type=int, default=0, metavar="N", help="open and close the union by a disc of this radius")


def select(arguments: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Run `fastsam-batch select`: its summary, and the exit code."""
    from fastsam_batch.corpus.read import Corpus
    from fastsam_batch.search.find import corpus_encoder
    from fastsam_batch.search.prompts import Prompts, parse_boxes, parse_points, select_masks
    from fastsam_batch.search.selection import FORMATS, write_selection
    from fastsam_batch.storage import check_ending, redact

    for output in arguments["output"]:
        check_ending(output, FORMATS)
    if not arguments["text"]:
        refuse_unused(arguments, {"top_k": _TOP_K, "min_score": None, "embedder": None}, "--text")
    if not arguments["point"]:
        refuse_unused(arguments, {"smallest": False}, "--point")
    prompts = Prompts(
        foreground=parse_points(arguments["point"] or [], "--point"),
        background=parse_points(arguments["background"] or [], "--background"),
        boxes=parse_boxes(arguments["box"] or [], "--box"),
        texts=list(dict.fromkeys(arguments["text"] or [])),
        smallest=arguments["smallest"],
        top_k=arguments["top_k"],
        min_score=arguments["min_score"],
        smooth_radius=arguments["smooth"],
    )
    corpus = Corpus.open(arguments["corpus"])
    encode = corpus_encoder(corpus, arguments["embedder"]) if prompts.texts else None
    found = select_masks(corpus.image(arguments["image"]), prompts, encode)
    for output in arguments["output"]:
        write_selection(output, found, corpus.photographs.pixels)

    print(f"image    {shown(arguments['image'])}, {found.rle.size[1]} x {found.rle.size[0]}")
    print(f"masks    {', '.join(map(str, found.mask_indices)) or 'none'}")
    print(f"union    {found.area:,} px")
    for box in found.boxes:
        print(f"box      {','.join(f'{value:g}' for value in box.box)}: mask {box.mask_index}, IoU {box.iou:.3f}")
    for text in prompts.texts:
        answers = [answer for answer in found.texts if answer.text == text]
        masks = ", ".join(f"mask {answer.mask_index} ({answer.similarity:.3f})" for answer in answers)
        print(f"text     {text}: {masks or 'no mask'}")
    for output in arguments["output"]:
        print(f"written  {redact(output)}")
    summary = {
        "image_id": arguments["image"],
        "mask_indices": found.mask_indices,
        "area": found.area,
        "boxes": found.to_json()["boxes"],
        "texts": [vars(answer) for answer in found.texts],
    }
    return summary, 0
