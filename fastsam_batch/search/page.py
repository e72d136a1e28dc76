"""A gallery as one HTML file: pictures inline, light and dark, no script, no request."""

from __future__ import annotations

import base64
from html import escape

from fastsam_batch.search.cards import Card, Gallery, QueryRow

_STYLE = """
:root { color-scheme: light dark;
  --ground: #f6f6f4; --card: #fff; --ink: #17181c; --quiet: #63666f;
  --rule: #dedfe2; --accent: #d6145a; }
@media (prefers-color-scheme: dark) { :root {
  --ground: #101115; --card: #191b20; --ink: #f1f1f3; --quiet: #9a9da7;
  --rule: #2b2e36; --accent: #ff5c93; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); line-height: 1.45;
  font: 16px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", sans-serif; }
body > * { max-width: 1480px; margin-inline: auto; padding-inline: clamp(16px, 3vw, 40px); }
header { padding-block: 44px 8px; }
h1 { margin: 0; font-size: clamp(28px, 4vw, 42px); line-height: 1.12; letter-spacing: -0.022em;
  font-weight: 680; }
header p { margin: 6px 0 0; color: var(--quiet); overflow-wrap: anywhere; }
dl { display: flex; flex-wrap: wrap; gap: 10px 36px; margin: 24px 0 0; }
dt { font-size: 13px; color: var(--quiet); }
dd { margin: 0; font-size: 20px; font-weight: 620; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
nav ul { display: flex; flex-wrap: wrap; gap: 8px; margin: 26px 0 0; padding: 0; list-style: none; }
nav a { display: block; padding: 5px 14px; border: 1px solid var(--rule); border-radius: 99px;
  background: var(--card); color: inherit; text-decoration: none; font-size: 14px; }
nav a:hover, nav a:focus-visible { border-color: var(--accent); color: var(--accent); }
section { padding-block: 30px 6px; }
section > div:first-child { display: flex; flex-wrap: wrap; align-items: baseline; gap: 2px 14px;
  margin-bottom: 14px; }
h2 { margin: 0; font-size: 23px; letter-spacing: -0.012em; font-weight: 660; overflow-wrap: anywhere; }
h2 + p, .none { margin: 0; color: var(--quiet); font-variant-numeric: tabular-nums; }
.none { padding: 22px; border: 1px dashed var(--rule); border-radius: 10px; }
figure { margin: 0; min-width: 0; background: var(--card); border: 1px solid var(--rule);
  border-radius: 10px; overflow: hidden; }
img, .missing { display: block; width: 100%; }
.missing { display: grid; place-items: center; margin: 0; padding: 18px; text-align: center;
  color: var(--quiet);
  background: var(--ground); }
figcaption { display: grid; grid-template-columns: 1fr auto; gap: 0 10px; padding: 9px 12px 11px; }
.title, .detail { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.title { font-size: 14px; font-weight: 560; }
.detail { font-size: 13px; color: var(--quiet); }
.score { grid-row: span 2; align-self: center; font-size: 18px; font-weight: 660; color: var(--accent);
  font-variant-numeric: tabular-nums; }
.hits { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 250px), 1fr)); gap: 14px; }
.hits img, .hits .missing { aspect-ratio: 4 / 3; object-fit: cover; }
.photographs { display: flex; flex-wrap: wrap; gap: 14px; }
.photographs::after { content: ""; flex: 1000 1 0; }
.photographs figure { flex: var(--shape) 1 calc(var(--shape) * 320px);
  max-width: calc(var(--shape) * 560px); }
.photographs img, .photographs .missing { aspect-ratio: var(--shape); object-fit: contain; }
footer { padding-block: 28px 48px; color: var(--quiet); font-size: 13px; }
"""


def html_page(gallery: Gallery, made_by: str) -> str:
    """The whole document. Everything is inside: it opens from a disk, a mail or a bucket alike."""
    queries = "".join(_query(number, row) for number, row in enumerate(gallery.queries, start=1))
    links = "".join(
        f'<li><a href="#query-{number}">{escape(row.text)}</a></li>'
        for number, row in enumerate(gallery.queries, start=1)
    )
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in gallery.facts)
    photographs = "".join(_photograph(card) for card in gallery.photographs)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(gallery.title)}: masks found by text</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>Masks found by text</h1>
<p>Corpus: {escape(gallery.title)}</p>
<dl>{facts}</dl>
<nav aria-label="Queries"><ul>{links}<li><a href="#photographs">All photographs</a></li></ul></nav>
</header>
<main>
{queries}<section id="photographs" aria-labelledby="photographs-title">
<div><h2 id="photographs-title">Photographs</h2><p>{escape(gallery.note)}</p></div>
<div class="photographs">{photographs}</div>
</section>
</main>
<footer>{escape(made_by)}. Numbers beside masks are raw cosines between the text and the mask.</footer>
</body>
</html>
"""


def _query(number: int, row: QueryRow) -> str:
    heading = f'<h2 id="query-{number}-title">{escape(row.text)}</h2>'
    if row.cards:
        hits = "".join(_hit(card) for card in row.cards)
        body = f'<div>{heading}<p>{escape(row.note)}</p></div>\n<div class="hits">{hits}</div>'
    else:
        body = f'<div>{heading}</div>\n<p class="none">{escape(row.note)}</p>'
    return f'<section id="query-{number}" aria-labelledby="query-{number}-title">\n{body}\n</section>\n'


def _hit(card: Card) -> str:
    score = "" if card.similarity is None else f'<span class="score">{card.similarity:.3f}</span>'
    return f"<figure>{_picture(card)}<figcaption>{_title(card)}{score}{_detail(card)}</figcaption></figure>"


def _photograph(card: Card) -> str:
    caption = f"<figcaption>{_title(card)}{_detail(card)}</figcaption>"
    return f'<figure style="--shape: {card.shape:.3f}">{_picture(card)}{caption}</figure>'


def _picture(card: Card) -> str:
    if card.picture is None:
        return f'<p class="missing">{escape(card.problem)}</p>'
    return f'<img src="{_data_uri(card.picture.jpeg)}" alt="{escape(card.description)}" loading="lazy">'


def _title(card: Card) -> str:
    return f'<span class="title" title="{escape(card.title)}">{escape(card.title)}</span>'


def _detail(card: Card) -> str:
    return f'<span class="detail">{escape(card.detail)}</span>'


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
