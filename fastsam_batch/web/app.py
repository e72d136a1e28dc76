"""The page as a FastAPI app: a static page, JSON about one corpus, and pictures of its photographs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pyarrow as pa
from fastapi import FastAPI, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from fastsam_batch.corpus.read import Corpus
from fastsam_batch.errors import InputError, OutageError
from fastsam_batch.masks.draw import distinct_colours
from fastsam_batch.search.background import Background
from fastsam_batch.search.image import CorpusImage
from fastsam_batch.search.pictures import ReadPixels, boxed_mask, whole_view
from fastsam_batch.search.prompts import ImageSelection, Prompts, select_masks
from fastsam_batch.search.scan import AbandonedError
from fastsam_batch.search.selection import selection_png
from fastsam_batch.search.texts import EncodeTexts
from fastsam_batch.web import answers
from fastsam_batch.web.access import Guard
from fastsam_batch.web.catalogue import Catalogue
from fastsam_batch.web.parameters import FIELDS, AskedFilters, AskedPrompts, ImageId, MaskIndex, Text, Version
from fastsam_batch.web.picks import Picks, picked_coco
from fastsam_batch.web.pictures import Pictures
from fastsam_batch.web.prompts import parse_prompts
from fastsam_batch.web.searches import find_like, find_text

_STATIC = Path(__file__).parent / "static"
# Addresses of pictures name the version of the corpus: a browser may keep those of this one for an hour, this user's
# alone, and none that a page of another corpus or version asks for.
_KEPT = {"cache-control": "private, max-age=3600"}
_NOT_KEPT = {"cache-control": "no-store"}
_ASKED_ANEW = {"cache-control": "no-cache"}
_COLOUR_SIDE = 600
_LOOK_SECONDS = 0.25  # between looks whether a client is still there
T = TypeVar("T")
# A refused picture is asked for once more, for the sentence that says why: the browser has it still.
_KEPT_REFUSAL = {"cache-control": "private, max-age=10"}
_PICTURES = ("/api/thumbnail", "/api/photograph", "/api/card")


def make_app(
    corpus: Corpus,
    *,
    encode: EncodeTexts | None = None,
    background: Background | None = None,
    token: str | None = None,
    read: ReadPixels | None = None,
) -> Guard:
    """The app over a corpus. `encode` and `background` as in `find_masks`; without `encode` texts are refused and
    all else works.

    `token` is what every request must bring, None for requests to localhost; `read` gives the pixels of a URI,
    from where the corpus says without it.
    """
    opened = ExitStack()
    photographs = opened.enter_context(corpus.photographs.opened())
    catalogue, pictures = Catalogue(corpus), Pictures(read or photographs.pixels)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        pictures.close()
        opened.close()

    app = FastAPI(title="fastsam-batch", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    _add_errors(app, corpus)
    _add_finding(app, catalogue, encode, background)
    _add_images(app, catalogue, pictures, encode, background)
    _add_pictures(app, catalogue, pictures)

    @app.get("/")
    def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html", headers=_ASKED_ANEW)

    app.mount("/static", _Fresh(directory=_STATIC))
    return Guard(app, token)  # around all of it: its own middlewares lie within what answers a failure


def _add_finding(app: FastAPI, catalogue: Catalogue, encode: EncodeTexts | None, background: Background | None) -> None:
    @app.get("/api/corpus")
    def describe() -> dict[str, Any]:
        catalogue.refresh()  # a page that is loaded again shows what a job has added meanwhile
        return answers.corpus_answer(catalogue)

    def found(hits: pa.Table) -> dict[str, Any]:
        catalogue.remember(hits)
        return {"hits": answers.hits_answer(hits)}

    @app.get("/api/search")
    async def search(request: Request, q: Text, filters: AskedFilters) -> dict[str, Any]:
        return await _while_asked(
            request,
            lambda left: found(find_text(catalogue.corpus, q, filters, _encoder(encode), background, left=left)),
        )

    @app.get("/api/like")
    async def like(request: Request, image: ImageId, mask: MaskIndex, filters: AskedFilters) -> dict[str, Any]:
        of_contrasts = _encoder(encode) if filters.contrasts else None
        return await _while_asked(
            request,
            lambda left: found(find_like(catalogue.corpus, image, mask, filters, of_contrasts, left=left)),
        )

    @app.post("/api/export")
    def export(picks: Picks) -> Response:
        data, left_out = picked_coco(catalogue, picks.masks)
        headers = {**_attachment("picked.coco.json"), "x-left-out": str(left_out)}
        return Response(data, media_type="application/json", headers=headers)


def _add_images(
    app: FastAPI,
    catalogue: Catalogue,
    pictures: Pictures,
    encode: EncodeTexts | None,
    background: Background | None,
) -> None:
    def select(image: str, prompt: list[str], smallest: bool) -> ImageSelection:
        prompts = Prompts(smallest=smallest, **parse_prompts(prompt))
        encoder = _encoder(encode) if prompts.texts else None
        return select_masks(catalogue.image(image), prompts, encoder, background)

    @app.get("/api/images")
    def images(
        offset: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=1, le=200)] = 60
    ) -> dict[str, Any]:
        rows = catalogue.page(offset, limit)
        return {"total": catalogue.corpus.count("images"), "images": [answers.image_row_answer(row) for row in rows]}

    @app.get("/api/image")
    async def image(image: ImageId) -> dict[str, Any]:
        found = await run_in_threadpool(catalogue.image, image)

        def answer() -> dict[str, Any]:
            return answers.image_answer(found, _colours(found, pictures))

        return await pictures.run(answer)

    @app.get("/api/select")
    def selection(image: ImageId, prompt: AskedPrompts, smallest: bool = False) -> dict[str, Any]:
        return answers.selection_answer(select(image, prompt, smallest))

    @app.get("/api/selection.json")
    def selection_file(image: ImageId, prompt: AskedPrompts, smallest: bool = False) -> JSONResponse:
        return JSONResponse(select(image, prompt, smallest).to_json(), headers=_attachment("selection.json"))

    @app.get("/api/selection.png")
    async def selection_picture(image: ImageId, prompt: AskedPrompts, smallest: bool = False) -> Response:
        found = await run_in_threadpool(select, image, prompt, smallest)

        def draw() -> bytes:
            pixels = pictures.pixels(found.image)  # says what is wrong with it without telling its folder
            return selection_png(found, lambda _: pixels)

        data = await pictures.run(draw)
        return Response(data, media_type="image/png", headers=_attachment("selection.png"))


def _add_pictures(app: FastAPI, catalogue: Catalogue, pictures: Pictures) -> None:
    def jpeg(data: bytes, version: str) -> Response:
        return Response(data, media_type="image/jpeg", headers=_KEPT if version == catalogue.version else _NOT_KEPT)

    @app.get("/api/thumbnail")
    async def thumbnail(image: ImageId, version: Version = "") -> Response:
        return jpeg(await pictures.thumbnail(await _ok_row(catalogue, image)), version)

    @app.get("/api/photograph")
    async def photograph(image: ImageId, version: Version = "") -> Response:
        return jpeg(await pictures.photograph(await _ok_row(catalogue, image)), version)

    @app.get("/api/card")
    async def card(image: ImageId, mask: MaskIndex, version: Version = "") -> Response:
        return jpeg(await pictures.card(*await run_in_threadpool(catalogue.mask, image, mask)), version)


def _add_errors(app: FastAPI, corpus: Corpus) -> None:
    @app.exception_handler(InputError)
    async def bad_input(request: Request, error: InputError) -> JSONResponse:
        answer = _error(400, answers.without_place(str(error), corpus))
        answer.headers.update(_KEPT_REFUSAL if request.url.path in _PICTURES else {})
        return answer

    @app.exception_handler(AbandonedError)
    async def abandoned(_: Request, error: AbandonedError) -> JSONResponse:
        return _error(499, "the client has left")  # nginx's status; it is read in logs alone

    @app.exception_handler(OutageError)
    async def outage(_: Request, error: OutageError) -> JSONResponse:
        return _error(503, f"{answers.without_place(str(error), corpus)}; try again")

    @app.exception_handler(RequestValidationError)
    async def bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = ".".join(part for part in first["loc"][1:] if isinstance(part, str))
        said = first["msg"] if first["msg"][:2].isupper() else f"{first['msg'][0].lower()}{first['msg'][1:]}"
        return _error(422, f"{FIELDS.get(name, name) or 'the request'}: {said}")

    @app.exception_handler(HTTPException)
    async def no_such_thing(request: Request, error: HTTPException) -> JSONResponse:
        return _error(error.status_code, f"{request.method} {request.url.path}: {str(error.detail).lower()}")

    @app.exception_handler(Exception)
    async def broken(_: Request, error: Exception) -> JSONResponse:
        # The traceback goes to the server's own log; it may name files that the page's users must not see.
        return _error(500, f"the server failed at this ({type(error).__name__}); its log says more")


async def _while_asked(request: Request, work: Callable[[Callable[[], bool]], T]) -> T:
    """What `work` gives, on a thread of its own; what it is given says whether the client has left."""
    left = threading.Event()
    task = asyncio.ensure_future(run_in_threadpool(work, left.is_set))
    try:
        while not (await asyncio.wait({task}, timeout=_LOOK_SECONDS))[0]:
            if await request.is_disconnected():
                left.set()
        return await task
    finally:
        left.set()  # where the server stops, too


def _encoder(encode: EncodeTexts | None) -> EncodeTexts:
    if encode is None:
        raise InputError("this corpus has no embeddings, so words find nothing in it; points and boxes work")
    return encode


def _colours(image: CorpusImage, pictures: Pictures) -> list[tuple[int, int, int]] | None:
    """A colour for each mask, unlike its neighbours' and what lies below; None where the photograph is gone."""
    if image.row["status"] != "ok":
        return None
    try:
        pixels = pictures.pixels(image.row)
    except InputError:
        return None
    boxed = [boxed_mask(row) for row in image.masks.select(["bbox", "rle"]).to_pylist()]
    return distinct_colours(pixels, boxed, whole_view(image.size_hw, _COLOUR_SIDE))


async def _ok_row(catalogue: Catalogue, image_id: str) -> dict[str, Any]:
    row = await run_in_threadpool(catalogue.row, image_id)
    if row["status"] != "ok":
        raise InputError(f"{image_id!r} failed when it was segmented: {answers.failure(row) or row['error_kind']}")
    return row


class _Fresh(StaticFiles):
    """Files that a browser asks for anew each time, and gets where they have changed: all of one version."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        response.headers.update(_ASKED_ANEW)
        return response


def _attachment(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}


def _error(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)
