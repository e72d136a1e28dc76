"""A gallery as one picture: a contact sheet to look at, print or put into a README."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from fastsam_batch.search.cards import Card, Gallery, QueryRow
from fastsam_batch.search.pictures import TILE_WH, scaled

WIDTH = 1680
_MARGIN = 56
_GAP = 16
_COLUMNS = 5
_ROWS = 2
_PHOTOGRAPH_HEIGHT = 380
_CAPTION = 58
_MAX_HEIGHT = 30_000

_GROUND = (16, 17, 21)
_CARD = (27, 29, 35)
_INK = (241, 241, 243)
_QUIET = (154, 157, 167)
_SCORE = (255, 92, 147)

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(gallery: Gallery, made_by: str) -> Image.Image:
    """RGB, WIDTH pixels wide and as high as it needs, but for photographs that would make it too high."""
    blocks = [_header(gallery), *(_query(row) for row in gallery.queries)]
    rows = _photograph_rows(gallery.photographs)
    footer = _strip(40)
    _write(footer, (_MARGIN, 6), f"{made_by}. Numbers beside masks are raw cosines.", 16, _QUIET)
    height = sum(block.height for block in blocks) + footer.height
    blocks.append(_heading("Photographs", gallery.note))
    height += blocks[-1].height
    for row in rows:
        if height + row.height > _MAX_HEIGHT:
            break
        blocks.append(row)
        height += row.height
    blocks.append(footer)

    sheet = Image.new("RGB", (WIDTH, height), _GROUND)
    top = 0
    for block in blocks:
        sheet.paste(block, (0, top))
        top += block.height
    return sheet


def _header(gallery: Gallery) -> Image.Image:
    strip = _strip(216)
    _write(strip, (_MARGIN, 48), "Masks found by text", 50, _INK)
    _write(strip, (_MARGIN, 110), f"Corpus: {gallery.title}", 21, _QUIET, WIDTH - 2 * _MARGIN)
    left = _MARGIN
    for name, value in gallery.facts:
        room = min(360, WIDTH - _MARGIN - left)
        if room < 80:
            break
        end = max(
            _write(strip, (left, 152), name, 16, _QUIET, room),
            _write(strip, (left, 174), value, 26, _INK, room),
        )
        left = end + 44
    return strip


def _heading(title: str, note: str) -> Image.Image:
    strip = _strip(76)
    end = _write(strip, (_MARGIN, 30), title, 30, _INK, WIDTH * 2 // 3)
    _write(strip, (end + 18, 40), note, 18, _QUIET, WIDTH - _MARGIN - end - 18)
    return strip


def _query(row: QueryRow) -> Image.Image:
    heading = _heading(row.text, row.note)
    width = (WIDTH - 2 * _MARGIN - (_COLUMNS - 1) * _GAP) // _COLUMNS
    height = round(width * TILE_WH[1] / TILE_WH[0])
    cards = row.cards[: _COLUMNS * _ROWS]
    lines = -(-len(cards) // _COLUMNS)
    block = _strip(heading.height + lines * (height + _CAPTION + _GAP))
    block.paste(heading)
    for number, card in enumerate(cards):
        left = _MARGIN + (number % _COLUMNS) * (width + _GAP)
        top = heading.height + (number // _COLUMNS) * (height + _CAPTION + _GAP)
        block.paste(_figure(card, (width, height)), (left, top))
    return block


def _photograph_rows(cards: list[Card]) -> list[Image.Image]:
    """Photographs in rows of one height each, filled to the margins; the last row may stay short."""
    rows: list[Image.Image] = []
    waiting: list[Card] = []
    for card in cards:
        waiting.append(card)
        if _natural_width(waiting) >= WIDTH - 2 * _MARGIN:
            rows.append(_photograph_row(waiting))
            waiting = []
    return [*rows, _photograph_row(waiting)] if waiting else rows


def _natural_width(cards: list[Card]) -> float:
    return sum(card.shape for card in cards) * _PHOTOGRAPH_HEIGHT + (len(cards) - 1) * _GAP


def _photograph_row(cards: list[Card]) -> Image.Image:
    room = WIDTH - 2 * _MARGIN - (len(cards) - 1) * _GAP
    height = min(round(room / sum(card.shape for card in cards)), _PHOTOGRAPH_HEIGHT)
    block = _strip(height + _CAPTION + _GAP)
    left = _MARGIN
    for card in cards:
        width = round(height * card.shape)
        block.paste(_figure(card, (width, height)), (left, 0))
        left += width + _GAP
    return block


def _figure(card: Card, size: tuple[int, int]) -> Image.Image:
    """The picture within `size`, its caption below."""
    width, height = size
    figure = Image.new("RGB", (width, height + _CAPTION), _CARD)
    if card.picture is None:
        _write_paragraph(figure, card.problem, (width, height))
    else:
        scale = min(width / card.picture.width, height / card.picture.height)
        shown = scaled(card.picture.width, card.picture.height, scale)
        picture = card.picture.opened().resize(shown, Image.Resampling.LANCZOS)
        figure.paste(picture, ((width - shown[0]) // 2, (height - shown[1]) // 2))
    room = width - 24
    if card.similarity is not None:
        score = f"{card.similarity:.3f}"
        start = width - 12 - round(_font(score, 24).getlength(score))
        _write(figure, (start, height + 14), score, 24, _SCORE)
        room = start - 24
    _write(figure, (12, height + 8), card.title, 17, _INK, room)
    _write(figure, (12, height + 31), card.detail, 15, _QUIET, room)
    return figure


def _strip(height: int) -> Image.Image:
    return Image.new("RGB", (WIDTH, height), _GROUND)


def _write(
    image: Image.Image,
    place: tuple[int, int],
    text: str,
    size: int,
    colour: tuple[int, int, int],
    room: int | None = None,
) -> int:
    """Write one line, cut with an ellipsis where it is wider than `room`; returns where it ends."""
    font = _font(text, size)
    if room is not None and font.getlength(text) > room:
        while text and font.getlength(text + "...") > room:
            text = text[:-1]
        text += "..."
    ImageDraw.Draw(image).text(place, text, fill=colour, font=font)
    return place[0] + round(font.getlength(text))


def _write_paragraph(image: Image.Image, text: str, room_wh: tuple[int, int]) -> None:
    """Write words in the middle of the room, broken into lines."""
    font = _font(text, 16)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= room_wh[0] - 48:
            lines[-1] = longer
        else:
            lines.append(word)
    top = max((room_wh[1] - 22 * len(lines)) // 2, 4)
    for number, line in enumerate(lines):
        left = max((room_wh[0] - round(font.getlength(line))) // 2, 12)
        _write(image, (left, top + 22 * number), line, 16, _QUIET, room_wh[0] - 24)


def _font(text: str, size: int) -> _Font:
    """Pillow's own font where it has the letters; else the one in matplotlib, which knows more alphabets."""
    return _plain_font(size) if text.isascii() else _wide_font(size)


@cache
def _plain_font(size: int) -> _Font:
    return ImageFont.load_default(size)


@cache
def _wide_font(size: int) -> _Font:
    spec = find_spec("matplotlib")  # comes with Ultralytics; looked up without importing it
    if spec is None or spec.origin is None:
        return _plain_font(size)
    path = Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size) if path.is_file() else _plain_font(size)
