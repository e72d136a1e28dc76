"""The search command: texts or stored masks to the masks of a corpus that look like them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fastsam_batch.cli_options import CORPUS, SEVERAL, TEXT_ENCODER, refuse_unused
from fastsam_batch.cli_progress import note_unfinished
from fastsam_batch.search.thresholds import MIN_CALIBRATED, least_calibrated
from fastsam_batch.words import counted, shown

if TYPE_CHECKING:
    from fastsam_batch.corpus.read import Corpus

_SHOWN = 5


def search_options(parser: argparse.ArgumentParser) -> None:
    """Options of `fastsam-batch search`."""
    add = parser.add_argument
    add("--corpus", **CORPUS)
    add(
        "--text",
        help='what to find; several texts are several searches, and "a cup|a mug" is one for either',
        **SEVERAL,
    )
    add("--like", metavar="ID#N", help="find what looks like mask N of the image ID; a search each", **SEVERAL)
    add("--not", dest="contrasts", metavar="TEXT", help="leave out masks that look more like this", **SEVERAL)
    add("--top-k", type=int, default=20, help="masks a search at most")
    add("--min-score", type=float, help="leave out masks whose cosine with the text is lower")
    add(
        "--min-calibrated",
        type=float,
        metavar="P",
        help="leave out masks that the text describes less well than background texts do, from 0 (keep all) to 1; "
        f"default: {MIN_CALIBRATED}, or none with --min-score",
    )
    add("--per-image", type=int, metavar="N", help="masks of one image at most, the best ones")
    add(
        "--distinct",
        type=float,
        metavar="IOU",
        help="leave out a mask that covers a better hit's pixels with this IoU or more; 0.8 is usual",
    )
    add(
        "--where",
        metavar="EXPR",
        help='only masks for which this holds, such as "area > 5000 and score >= 0.3"',
    )
    add(
        "--engine",
        choices=("auto", "index", "scan"),
        default="auto",
        help="auto: a fresh index where there is one, else the exact scan",
    )
    add("--distributed", action="store_true", help="scan as a Ray Data job, on the cluster RAY_ADDRESS names")
    add("--embedder", **TEXT_ENCODER)
    add("--output", metavar="FILE", help="hits with their RLE, as .parquet or .jsonl")
    add("--gallery", metavar="FILE", help="pictures of the hits and the photographs, as .html or .png")


def search(arguments: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """Run `fastsam-batch search`: its summary, and the exit code."""
    from fastsam_batch.corpus.read import Corpus
    from fastsam_batch.errors import InputError
    from fastsam_batch.search.find import corpus_background, corpus_encoder, engine_of, find_masks
    from fastsam_batch.search.gallery import FORMATS as GALLERY_FORMATS
    from fastsam_batch.search.gallery import write_gallery
    from fastsam_batch.search.likeness import mask_name, parse_mask
    from fastsam_batch.search.write import FORMATS, write_hits
    from fastsam_batch.storage import check_ending, redact

    if arguments["output"]:
        check_ending(arguments["output"], FORMATS)
    if arguments["gallery"]:
        check_ending(arguments["gallery"], GALLERY_FORMATS)
    texts = list(dict.fromkeys(arguments["text"] or []))
    like = list(dict.fromkeys(parse_mask(text, "--like") for text in arguments["like"] or []))
    contrasts = list(dict.fromkeys(arguments["contrasts"] or []))
    if not texts and not like:
        raise InputError("there is nothing to search for; name a --text, or a mask by --like")
    if not texts:
        refuse_unused(arguments, {"min_calibrated": None} | ({} if contrasts else {"embedder": None}), "--text")
    if both := set(texts) & set(map(mask_name, like)):
        raise InputError(f"--text {both.pop()!r}: names a mask of --like too; search for it in a run of its own")
    if arguments["distributed"] and arguments["engine"] != "auto":
        raise InputError(f"--distributed is a scan on a cluster; leave out --engine {arguments['engine']}")
    min_calibrated = least_calibrated(arguments["min_calibrated"], arguments["min_score"])
    corpus = Corpus.open(arguments["corpus"])
    encode = corpus_encoder(corpus, arguments["embedder"]) if texts or contrasts else None
    background = corpus_background(corpus, encode) if encode and texts else None
    hits = find_masks(
        corpus,
        texts,
        like=like,
        top_k=arguments["top_k"],
        min_score=arguments["min_score"],
        min_calibrated=min_calibrated if texts else None,
        contrasts=contrasts,
        per_image=arguments["per_image"],
        distinct=arguments["distinct"],
        where=arguments["where"],
        engine="distributed" if arguments["distributed"] else arguments["engine"],
        encode=encode,
        background=background,
    )
    examples = list(map(mask_name, like))
    names = [*texts, *examples]
    if arguments["output"]:
        write_hits(arguments["output"], hits)
    if arguments["gallery"]:
        least = {"min_score": arguments["min_score"], "min_calibrated": min_calibrated}
        write_gallery(arguments["gallery"], corpus, hits, names, like=examples, **least)
    if hits.num_rows or _any_mask(corpus, arguments["where"]):
        hint = _nearest_hint(arguments["min_score"], min_calibrated)
        why = {name: f"nothing stands out{hint if name in texts else ''}" for name in names}
    else:
        why = dict.fromkeys(names, "no mask passes --where" if arguments["where"] else "the corpus has no masks")
    plain = hits.drop_columns(["rle", "bbox"]).to_pylist()
    queries = [_query(name, [hit for hit in plain if hit["text"] == name], why[name]) for name in names]
    for file in filter(None, (arguments["output"], arguments["gallery"])):
        print(f"written  {redact(file)}")
    note_unfinished(corpus)
    return {"hits": hits.num_rows, "queries": queries, "engine": engine_of(hits)}, 0


def _nearest_hint(min_score: float | None, min_calibrated: float | None) -> str:
    """How to see the nearest masks where none reaches the thresholds."""
    options = ["--min-calibrated 0"] if min_calibrated else []
    options += ["a lower --min-score"] if min_score is not None and min_score > -1 else []
    return f"; {' and '.join(options)} shows the nearest" if options else ""


def _any_mask(corpus: Corpus, where: str | None) -> bool:
    """Whether the corpus has masks, or any that pass a filter; embeddings are not read for it."""
    if where:
        return next(corpus.mask_batches(["mask_index"], where), None) is not None
    return corpus.count("masks") > 0


def _query(name: str, found: list[dict[str, Any]], why_none: str) -> dict[str, Any]:
    """What the summary says of one query; prints its best hits, or why there are none."""
    print(f"{name}: {counted(len(found), 'mask') if found else why_none}")
    for hit in found[:_SHOWN]:
        sure = "" if hit["calibrated"] is None else f"  ({hit['calibrated']:.2f})"
        print(
            f"  {hit['similarity']:.3f}{sure}  {shown(hit['image_id'])}  mask {hit['mask_index']}  {hit['area']:,} px"
        )
    keys = ("image_id", "mask_index", "similarity", "calibrated")
    best = {key: found[0][key] for key in keys} if found else None
    return {"text": name, "hits": len(found), "best": best}
