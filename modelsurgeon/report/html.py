"""One self-contained HTML page of tables: no scripts, no external files, light and dark."""

from __future__ import annotations

import html
from collections.abc import Sequence

from modelsurgeon.report.formatting import escape
from modelsurgeon.report.table import Table

PAGE_STYLE = """
:root { color-scheme: light dark; --text: #1c2126; --dim: #5b6670; --page: #fff; --line: #d9dee3;
  --stripe: #f5f7f9; --bar: #4c8dbf; --rail: #e6ebef;
  --other: #d0713a; }
@media (prefers-color-scheme: dark) { :root { --text: #e3e7ea; --dim: #9aa5ae; --page: #15191d;
  --line: #343c44; --stripe: #1b2025; --bar: #5fa3d6; --rail: #2a3138;
  --other: #e58f5b; } }
body { margin: 0 auto; max-width: 86rem; padding: 2rem 1.5rem 4rem; color: var(--text);
  background: var(--page); font: 15px/1.5 system-ui, "Segoe UI", Roboto, Arial, sans-serif; }
h1 { font-size: 1.5rem; font-weight: 600; margin: 0 0 .3rem; overflow-wrap: anywhere; }
.lead, .note { color: var(--dim); margin: .3rem 0; max-width: 60rem; }
section { margin-top: 2.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-size: 1.05rem; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .22rem .6rem; text-align: left; vertical-align: top; white-space: nowrap; }
th:first-child, td:first-child { padding-left: .3rem; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; color: var(--dim); }
tbody tr:nth-child(even) { background: var(--stripe); }
tfoot td { border-top: 2px solid var(--line); font-weight: 600; }
.number { text-align: right; }
.prose { white-space: normal; min-width: 18rem; max-width: 40rem; }
.long { display: inline-block; white-space: normal; min-width: 14rem; max-width: 30rem; }
code { font: .95em ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
code span { white-space: nowrap; }
.rail { display: block; width: 6.5rem; height: .7rem; margin-top: .35rem; background: var(--rail);
  border-radius: 2px; }
h2 { font-size: 1.05rem; font-weight: 600; margin: 0 0 .6rem; }
.plot { margin: 0 0 1rem; }
.plot svg { width: 100%; max-width: 60rem; height: 9rem; display: block;
  border-bottom: 1px solid var(--line); }
.plot .area { fill: var(--bar); }
.plot .mark { stroke: var(--text); stroke-width: 1.5; vector-effect: non-scaling-stroke; fill: none;
  stroke-dasharray: 4 3; }
.plot figcaption { color: var(--dim); font-size: .87rem; }
.chart { margin: 0 0 1rem; }
.chart svg { width: 100%; max-width: 60rem; height: auto; display: block; }
.chart text { fill: var(--dim); font-size: 13px; }
.chart .grid { stroke: var(--line); stroke-width: 1; }
.chart polyline { fill: none; stroke-width: 2; }
.chart polyline.line-0 { stroke: var(--bar); } .chart circle.line-0 { fill: var(--bar); }
.chart polyline.line-1 { stroke: var(--other); } .chart circle.line-1 { fill: var(--other); }
.chart figcaption { font-size: .87rem; }
.key { color: var(--dim); margin-right: 1.5rem; }
.key::before { content: ""; display: inline-block; width: 1.4rem; height: .2rem; margin-right: .5rem;
  vertical-align: middle; }
.key.line-0::before { background: var(--bar); } .key.line-1::before { background: var(--other); }
.rail span { display: block; height: 100%; background: var(--bar); border-radius: 2px; }
"""


def html_page(title: str, sections: Sequence[Table], *, lead: Sequence[str] = ()) -> str:
    """A whole HTML page: the title, lines of text under it, and each table in a section of its own."""
    paragraphs = "".join(f'<p class="lead">{_text(line)}</p>\n' for line in lead)
    tables = "".join(f"<section>\n{table.html()}</section>\n" for table in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{PAGE_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{_text(title)}</h1>\n{paragraphs}{tables}</body>\n</html>\n"
    )


def _text(text: str) -> str:
    return html.escape(escape(text))
