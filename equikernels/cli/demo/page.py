"""index.html: one page without scripts, beside its figures."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence

from equikernels.cli.demo.parts import FinishedPart

__all__ = ["page"]

STYLE = """
:root { color-scheme: light; --ink: #1d1d1f; --quiet: #55585f; --line: #e2e4e8; --accent: #0072b2; }
* { box-sizing: border-box; }
body { font: 1rem/1.6 system-ui, "DejaVu Sans", sans-serif; color: var(--ink); margin: 0; background: #fff; }
header { background: #f2f6fa; border-bottom: 3px solid var(--accent); padding: 2.2rem 0 1.6rem; }
header > div, main { max-width: 62rem; margin-left: auto; margin-right: auto; padding: 0 1.2rem; }
main { padding-bottom: 4rem; }
h1 { font-size: 1.9rem; line-height: 1.25; margin-top: 0; margin-bottom: .5rem; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 3.2rem 0 .7rem; }
p { margin: .7rem 0; }
a { color: var(--accent); }
.tally { font-weight: 600; }
.unfinished { font-weight: 600; color: #8f3500; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; line-height: 1.45;
        font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .42rem .9rem .42rem 0; }
td { border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--accent); vertical-align: bottom; }
.numbers { min-width: 36rem; }
.claims tbody th { padding-top: 1.2rem; border-bottom: 1px solid var(--line); }
.claims td:first-child { width: 44%; }
.verdict { display: inline-block; border-radius: .8rem; padding: .02rem .65rem; font-weight: 600;
           font-size: .82rem; white-space: nowrap; }
.holds { background: #d9f0e8; color: #00523c; }
.fails { background: #fbdfd0; color: #8f3500; }
.observed { background: #eceef1; color: var(--quiet); }
.facts th { width: 8.5rem; border-bottom: 1px solid var(--line); }
figure { margin: 2.2rem 0; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto .7rem; }
figcaption, .note { font-size: .9rem; line-height: 1.5; color: var(--quiet); }
figcaption b { color: var(--ink); }
"""

TITLE = "equikernels: papers in miniature"

INTRODUCTION = (
    "Each part trains the model of one paper, small, on real data that comes with the libraries, and checks "
    "what the paper claims for it. Every verdict is computed from the numbers beside it; what is only "
    "observed cannot fail. The miniatures do not reproduce the papers' tables: models, data and training "
    "are far smaller."
)


def page(done: Sequence[FinishedPart], waiting: Sequence[str], conditions: Mapping[str, object]) -> str:
    """The page of the parts done so far.

    Args:
        waiting: names of the parts that are still to be done, which the page tells.
        conditions: what it takes to repeat the run.
    """
    unfinished = ""
    if waiting:
        names = html.escape(", ".join(waiting))
        unfinished = f'<p class="unfinished">Not done, or not yet: {names}.</p>\n'
    facts = "\n".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(_words(value))}</td></tr>'
        for name, value in conditions.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{TITLE}</title>
<style>{STYLE}</style>
</head>
<body>
<header><div>
<h1>{TITLE}</h1>
<p>{INTRODUCTION}</p>
<p class="tally">{_tally(done)}</p>
{unfinished}</div></header>
<main>
<h2>Verdicts</h2>
{_claims(done)}
{"".join(map(_section, done))}
<h2 id="repeat">How to repeat this</h2>
<p>Run the command below. The same command gives the same numbers on the same machine. Claims and tables are
also in <a href="results.json">results.json</a>.</p>
<div class="wide"><table class="facts"><tbody>
{facts}
</tbody></table></div>
</main>
</body>
</html>
"""


def _tally(done: Sequence[FinishedPart]) -> str:
    count = Counter(claim.holds for part in done for claim in part.miniature.claims)
    return f"Claims: {count[True]} hold, {count[False]} fail. Observations: {count[None]}."


def _claims(done: Sequence[FinishedPart]) -> str:
    """The claims of all parts in one table, each part below its name."""
    lines = []
    for part in done:
        title = html.escape(part.miniature.title)
        lines.append(f'<tr><th colspan="3" scope="rowgroup"><a href="#{part.name}">{title}</a></th></tr>')
        for claim in part.miniature.claims:
            word = f'<span class="verdict {claim.verdict.lower()}">{claim.verdict}</span>'
            cells = (html.escape(claim.claim), html.escape(claim.measured), word)
            lines.append(_row(cells, "td"))
    head = _row(("claim", "measured", "verdict"), "th")
    return _table("claims", head, lines)


def _section(part: FinishedPart) -> str:
    found = part.miniature
    blocks = [f'<section id="{part.name}">', f"<h2>{html.escape(found.title)}</h2>"]
    blocks.append(f"<p>{html.escape(found.introduction)}</p>")
    if found.headings:
        head = _row([html.escape(cell) for cell in found.headings], "th")
        rows = [_row([html.escape(cell) for cell in cells], "td") for cells in found.rows]
        blocks.append(_table("numbers", head, rows))
    if found.note:
        blocks.append(f'<p class="note">{html.escape(found.note)}</p>')
    for picture in found.pictures:
        file, title = part.file(picture), html.escape(picture.title)
        blocks.append(
            f'<figure><a href="{file}"><img src="{file}" alt="{title}"></a>\n'
            f"<figcaption><b>{title}.</b> {html.escape(picture.caption)}</figcaption></figure>"
        )
    blocks.append(f'<p class="note">This part took {part.seconds:.0f} s.</p>')
    return "\n".join([*blocks, "</section>\n"])


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def _table(kind: str, head: str, rows: Sequence[str]) -> str:
    body = "\n".join(rows)
    whole = f'<table class="{kind}"><thead>{head}</thead><tbody>\n{body}\n</tbody></table>'
    return f'<div class="wide">{whole}</div>'


def _words(value: object) -> str:
    """A value as a person writes it: mappings without brackets."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_words(part)}" for name, part in value.items())
    return str(value)
