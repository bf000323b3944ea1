"""What a scenario found as one HTML page that needs nothing else: facts, pictures, tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from html import escape

from rich.table import Table
from rich.text import Text

from perf.measure import Machine

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem; max-width: 76rem; background: #fff; color: #1f2933;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
h1 { font-size: 1.9rem; margin: 0 0 .25rem; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; padding-top: .9rem;
  border-top: 2px solid #1f2933; }
h3 { font-size: 1rem; margin: 1.8rem 0 .4rem; }
p, ul { max-width: 46rem; } .lead { color: #52606d; margin: 0 0 1.4rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: 0; }
dt { color: #52606d; } dd { margin: 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
  font-size: 13px; }
th, td { padding: .32rem .45rem; text-align: right; border-bottom: 1px solid #e3e7eb;
  white-space: nowrap; vertical-align: top; }
th { font-weight: 600; color: #52606d; border-bottom: 1.5px solid #9aa5b1; white-space: normal; }
th:first-child, td:first-child { text-align: left; }
td small { display: block; color: #7b8794; font-size: 11px; }
tr.own td { background: #fdf3f2; font-weight: 600; } tr.own small { font-weight: 400; }
td.own { background: #fdf3f2; font-weight: 600; } td.own small { font-weight: 400; }
.bad { color: #b3261e; } .scroll { overflow-x: auto; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(29rem, 1fr));
  gap: 1.2rem 2rem; }
figure { margin: 0; break-inside: avoid; }
figcaption { font-weight: 600; margin-bottom: .15rem; }
figcaption span { color: #7b8794; font-weight: 400; }
svg { width: 100%; height: auto; display: block;
  font: 12px system-ui, "Liberation Sans", sans-serif; }
@page { size: A4 landscape; margin: 12mm; }
@media print { body { max-width: none; padding: 0; font-size: 11px; } table { font-size: 9px; }
  th, td { padding: .18rem .4rem; } td small { font-size: 8px; } h2 { break-after: avoid; }
  h3 { break-after: avoid; } h2.page { break-before: page; border-top: 0; }
  tr { break-inside: avoid; } .scroll { overflow: visible; }
  .grid { grid-template-columns: 1fr 1fr; } * { print-color-adjust: exact; } }
"""


def document(title: str, body: str) -> str:
    """A whole page."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body>{body}</body></html>\n"
    )


def page(
    title: str,
    lead: str,
    facts: Mapping[str, str],
    pictures: Mapping[str, str],
    tables: Iterable[Table],
    troubles: Iterable[str],
) -> str:
    """A page of these: pictures as SVG by their captions, tables as they are on a terminal.

    troubles: what is not as it should be, in a line each.
    """
    parts = [f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p><dl>']
    parts += [f"<dt>{escape(n)}</dt><dd>{escape(text)}</dd>" for n, text in facts.items()]
    parts.append("</dl>")
    parts += [f'<p class="bad">{escape(trouble)}</p>' for trouble in troubles]
    parts.append('<div class="grid">')
    for caption, picture in pictures.items():
        parts.append(f"<figure><figcaption>{escape(caption)}</figcaption>{picture}</figure>")
    parts.append("</div>")
    for table in tables:
        parts += rows_of(table)
    return document(f"kdns: {title}", "".join(parts))


def facts_of(machine: Machine) -> dict[str, str]:
    """What figures are to be read with."""
    about = f"{machine.cpu}, {machine.cores} cores; {machine.kernel}; Python {machine.python}"
    return {"machine": about}


def rows_of(table: Table) -> Iterator[str]:
    """A table of a terminal as HTML: its title, heads, rows, those that stand out, and caption."""
    if table.title:
        yield f"<h2>{_plain(table.title)}</h2>"
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(f"<th>{_plain(column.header)}</th>" for column in table.columns)
    yield "</tr></thead><tbody>"
    cells = [list(column.cells) for column in table.columns]
    for row, found in zip(table.rows, zip(*cells, strict=True), strict=True):
        mark = ' class="bad"' if row.style == "red" else ""
        yield f"<tr{mark}>{''.join(f'<td>{_plain(cell)}</td>' for cell in found)}</tr>"
    yield "</tbody></table></div>"
    if table.caption:
        yield f"<p>{_plain(table.caption)}</p>"


def _plain(shown: object) -> str:
    return escape(shown.plain if isinstance(shown, Text) else str(shown))
