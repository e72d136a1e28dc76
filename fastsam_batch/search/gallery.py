"""Search results as pictures: an HTML page or a PNG contact sheet."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa

import fastsam_batch
from fastsam_batch import storage
from fastsam_batch.corpus.read import Corpus
from fastsam_batch.search.cards import make_gallery
from fastsam_batch.search.page import html_page
from fastsam_batch.search.pictures import ReadPixels, png_bytes
from fastsam_batch.search.sheet import contact_sheet

FORMATS = (".html", ".png")


def write_gallery(
    uri: storage.Uri,
    corpus: Corpus,
    hits: pa.Table,
    texts: Sequence[str],
    *,
    min_score: float | None = None,
    min_calibrated: float | None = None,
    max_hits: int = 20,
    max_photographs: int = 24,
    read: ReadPixels | None = None,
    like: Collection[str] = (),
) -> None:
    """Draw a search result (`find.hits_schema`) and the corpus's photographs with all their masks.

    `.html` is one file that asks for nothing else, `.png` a contact sheet. `texts` are the queries, those
    without hits included; `min_score` and `min_calibrated` are what they had to reach, but for the calibrated
    score of those that name a mask, `like`. At most `max_hits` a query are drawn (a sheet shows ten), and
    `max_photographs` in all. Photographs are read anew from their `uri` (or by `read`), one at a time; one that
    is gone or has changed becomes a card that says so.
    Raises InputError for another ending, or where the file cannot be written.
    """
    storage.check_ending(uri, FORMATS)
    queries = list(dict.fromkeys(texts))
    with corpus.photographs.opened() as photographs:
        read = read or photographs.pixels
        gallery = make_gallery(corpus, hits, queries, min_score, max_hits, max_photographs, read, min_calibrated, like)
    made_by = f"Made by fastsam-batch {fastsam_batch.__version__}"
    if storage.ends_in(uri, ".html"):
        data = html_page(gallery, made_by).encode()
    else:
        data = png_bytes(contact_sheet(gallery, made_by))
    storage.write_result(uri, data)
