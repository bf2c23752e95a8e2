"""A page that needs nothing beside itself: pictures within, light or dark as the reader's machine is, on a phone or a desk."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO

from PIL import Image as Pillow
from torch import Tensor

from anamorph.evaluation.charts import HUES
from anamorph.figures.grid import as_picture

__all__ = ["figure", "page", "picture", "section", "sprite", "table"]

HOW = "taken over"
"""The column that gives way on a phone."""
MANY = 6
"""Columns from which on a table may be wider than the text, and its first column stays where it is."""
STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --card: #ffffff; --ink: #1c1c1e; --soft: #6a6a70; --rule: #e4e2dd;
  --c0: #2f66d0; --c1: #d9722b; --c2: #2c9a68; --c3: #b23a62; --c4: #7a55c7; --c5: #9a7b1f; --c6: #1e93ab; --c7: #767676;
  --c8: #e0559f; --c9: #7c4327; --c10: #2c3a8c; --c11: #7fae1d; --best-metric: #e7f2ea; }
@media (prefers-color-scheme: dark) { :root { --paper: #141517; --card: #1c1e21; --ink: #ececee; --soft: #9b9ca3;
  --rule: #303338;
  --c0: #7aa5ff; --c1: #f0a067; --c2: #6acb9c; --c3: #ec7fa2; --c4: #b49af0; --c5: #d8bb60; --c6: #62c9de; --c7: #a0a0a0;
  --c8: #ff9ed0; --c9: #c08a6a; --c10: #8c9cf5; --c11: #b9dd6a; --best-metric: #1e3327; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif;
  -webkit-text-size-adjust: 100%; }
main { max-width: 1080px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 20px; margin: 44px 0 4px; letter-spacing: -0.005em; }
p { margin: 6px 0 12px; max-width: 72ch; }
.soft, figcaption, .under { color: var(--soft); }
.under { font-size: 12.5px; line-height: 1.4; display: block; max-width: 60ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(148px, 1fr)); gap: 12px; margin: 24px 0 8px; }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 12px 14px; }
.card b { display: block; font-size: 25px; font-weight: 600; letter-spacing: -0.01em; font-variant-numeric: tabular-nums; }
.card span { font-size: 12.5px; color: var(--soft); display: block; overflow-wrap: anywhere; line-height: 1.35; }
.wide { overflow-x: auto; background: var(--card); border: 1px solid var(--rule); border-radius: 12px; margin: 12px 0; }
.many { width: max-content; max-width: calc(100vw - 40px); margin-left: 50%; translate: -50%; }
.many td:first-child { position: sticky; left: 0; background: var(--card); min-width: 230px; }
.many td.n small { display: block; } .many th, .many td { padding: 8px 10px; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; }
th, td { text-align: left; padding: 9px 14px; border-top: 1px solid var(--rule); vertical-align: top; }
thead th { border-top: 0; font-weight: 600; font-size: 13px; color: var(--soft); }
tr.group th { background: color-mix(in srgb, var(--rule) 38%, transparent); font-size: 12.5px; letter-spacing: 0.05em;
  text-transform: uppercase; color: var(--soft); padding: 7px 14px; }
td.n { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.how { color: var(--soft); font-size: 12.5px; line-height: 1.4; } .phone { display: none; }
td.n small { color: var(--soft); font-size: 12.5px; }
td.best { background: var(--best-metric); font-weight: 600; }
td.tie { background: color-mix(in srgb, var(--best-metric) 55%, transparent); }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 430px), 1fr)); gap: 16px; margin: 12px 0; }
figure { margin: 12px 0; background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 14px;
  min-width: 0; }
.figures figure { margin: 0; }
figcaption { font-size: 13px; margin-top: 8px; line-height: 1.45; }
figure h3 { font-size: 14px; margin: 0 0 8px; font-weight: 600; }
img { display: block; width: 100%; height: auto; image-rendering: pixelated; border-radius: 6px; }
.scroll { overflow-x: auto; } .scroll img { min-width: 560px; }
.rows { display: grid; grid-template-columns: max-content 1fr; gap: 6px 12px; align-items: center; font-size: 12.5px;
  color: var(--soft); }
@media (max-width: 720px) { .how { display: none; } .phone { display: inline; }
  td.n { white-space: normal; } td.n small { display: block; } td:first-child { min-width: 190px; }
  .many td:first-child { min-width: 150px; } }
@media (max-width: 560px) { .rows { grid-template-columns: 1fr; gap: 2px; } .rows img { margin-bottom: 10px; }
  main { padding: 22px 12px 48px; }
  h1 { font-size: 24px; } th, td { padding: 8px 10px; } table { font-size: 13.5px; } }
svg.chart { display: block; width: 100%; height: auto; }
.grid { stroke: var(--rule); fill: none; } .tick { fill: var(--soft); font-size: 11px; font-family: inherit; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.area { fill-opacity: 0.28; stroke-width: 1.4; } .bar { fill: var(--c0); }
.legend { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: 12.5px; color: var(--soft); margin-top: 6px; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 6px; }
details { margin: 12px 0; } summary { cursor: pointer; color: var(--soft); font-size: 14px; }
footer { margin-top: 48px; color: var(--soft); font-size: 13px; border-top: 1px solid var(--rule); padding-top: 14px; }
"""
COLOURS = "".join(
    f".c{i} {{ stroke: var(--c{i}); }} .area.c{i}, .dot.c{i} {{ fill: var(--c{i}); }} .k{i} {{ background: var(--c{i}); }}\n"
    for i in range(HUES)
)


def page(title: str, body: str) -> str:
    """Return a whole page."""
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{escape(title)}</title><style>{STYLE}{COLOURS}</style></head>'
        f"<body><main>{body}</main></body></html>\n"
    )


def section(title: str, *parts: str, notes: str = "") -> str:
    """Return a heading, what is to be known, and what follows; nothing, if nothing does."""
    if not any(parts):
        return ""
    text = f'<p class="soft">{escape(notes)}</p>' if notes else ""
    return f"<section><h2>{escape(title)}</h2>{text}{''.join(parts)}</section>"


def figure(content: str, caption: str = "", title: str = "") -> str:
    head = f"<h3>{escape(title)}</h3>" if title else ""
    return f"<figure>{head}{content}{f'<figcaption>{escape(caption)}</figcaption>' if caption else ''}</figure>"


def table(head: Sequence[str], rows: Sequence[str]) -> str:
    """Rows that are written already, in a box that scrolls where it is too wide."""
    names = "".join(f"<th{' class=how' * (name == HOW)}>{escape(name)}</th>" for name in head)
    kind = "wide many" if len(head) >= MANY else "wide"
    return f'<div class="{kind}"><table><thead><tr>{names}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def sprite(images: Tensor | Sequence[Tensor], columns: int, gap: int = 1) -> Pillow.Image:
    """Return images [n, C, H, W] in [-1, 1] in rows, as one picture with the space between them clear."""
    pictures = [as_picture(image) for image in images]
    wide, high = pictures[0].size
    rows = -(-len(pictures) // columns)
    paper = Pillow.new("RGBA", (columns * (wide + gap) - gap, rows * (high + gap) - gap), (0, 0, 0, 0))
    for i, one in enumerate(pictures):
        paper.paste(one.convert("RGBA"), ((i % columns) * (wide + gap), (i // columns) * (high + gap)))
    return paper


def picture(image: Pillow.Image, alt: str) -> str:
    """Return a picture within the page, as it is, without loss."""
    stream = BytesIO()
    image.save(stream, "WEBP", lossless=True, method=4)
    data = b64encode(stream.getvalue()).decode()
    return f'<img alt="{escape(alt)}" width="{image.width}" height="{image.height}" src="data:image/webp;base64,{data}">'
