"""What the demonstration says: its headings, its captions and its page."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from equikernels.models.soft_equivariance import figures

__all__ = ["CAPTION", "COLUMNS", "TITLE", "Verdict", "page"]

COLUMNS: tuple[str, ...] = ("group", "softness", "certified error", "measured error", "worst ratio")
COLUMNS += ("unchanged* (%)", "upright* (%)", "rotated* (%)")

TITLE = "Digits under turns (* no certificate; rotated: C_4 by exact quarter turns, SO(2) bilinearly)"

CAPTION = (
    "Certified and measured error: change of the logits in the worst turn checked, relative to their "
    "length, for the median test image; above 1 a certificate proves no prediction, because the logits "
    "may turn round. Worst ratio: measured / certified over all images and turns. Unchanged*: images "
    "whose predicted digit is the same in every turn checked. Upright*, rotated*: accuracy on test "
    "images as they are and turned, C_4 by 90, 180 and 270 degrees, SO(2) by random angles with bilinear "
    "interpolation, which is not the action of the certificate. Mean ± standard deviation over seeds."
)

INTRODUCTION = (
    "A network with one hidden layer learns scikit-learn's digits (8 x 8 pixels) from upright images "
    "only. Its first layer is projected: softness 0 leaves only filters that no turn can change, "
    "softness 1 leaves all. From the weights alone follows how far a turn can move the network's "
    "answer, for every image; that is the certificate, and here it is compared with what happens on the "
    "test images. C_4 are the quarter turns of the pixels; SO(2) is every angle, by the spectral "
    "representation, which composes exactly."
)

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>equikernels demo: digits under turns</title>
<style>
body {{ font: 16px/1.55 system-ui, "DejaVu Sans", sans-serif; color: #1d1d1f; max-width: 62rem;
       margin: 2.5rem auto; padding: 0 1.2rem; }}
h1 {{ font-size: 1.7rem; margin-bottom: .4rem; }}
h2 {{ font-size: 1.2rem; margin: 2.4rem 0 .6rem; }}
table {{ border-collapse: collapse; font-size: .88rem; width: 100%; font-variant-numeric: tabular-nums; }}
th, td {{ text-align: left; padding: .3rem .7rem .3rem 0; vertical-align: top; }}
th {{ border-bottom: 2px solid #0072B2; vertical-align: bottom; }}
td {{ border-bottom: 1px solid #e4e4e4; }}
figure {{ margin: 2rem 0; }}
img {{ max-width: 100%; display: block; margin: 0 auto .6rem; }}
figcaption, .note {{ font-size: .9rem; color: #444; }}
</style>
</head>
<body><h1>Digits under turns</h1><p>{introduction}</p>
<h2>Verdicts</h2>
{verdicts}
<h2>Results</h2>
<p>{title}</p>
{table}
<p class="note">{caption}</p>
<h2>Figures</h2>
{figures}
<h2>How to reproduce</h2>
<p>Run the command below; all numbers are in <a href="results.json">results.json</a>.</p>
{facts}
</body>
</html>
"""


@dataclass(frozen=True)
class Verdict:
    """A claim, what was measured, and whether it held; None marks an observation, which cannot fail."""

    claim: str
    measured: str
    holds: bool | None

    @property
    def word(self) -> str:
        return {True: "holds", False: "FAILS", None: "observed"}[self.holds]


def _plain(value: object) -> str:
    """A value as a person writes it: lists and mappings without brackets."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(part)}" for name, part in value.items())
    return " ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


def page(rows: Sequence[Sequence[str]], judged: Sequence[Verdict], conditions: Mapping[str, object]) -> str:
    """index.html: one self-contained page beside its figures."""

    def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
        def line(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "\n".join(line(cells, "td") for cells in lines)
        return f"<table><thead>{line(headings, 'th')}</thead>\n<tbody>{body}</tbody></table>"

    shown = "\n".join(
        f'<figure><img src="{name}" alt="{html.escape(title)}"><figcaption><b>{html.escape(title)}.</b> '
        f"{html.escape(caption)}</figcaption></figure>"
        for name, (title, caption) in figures.CAPTIONS.items()
    )
    facts = [(name, _plain(value)) for name, value in conditions.items()]
    claims = [(verdict.claim, verdict.measured, verdict.word) for verdict in judged]
    return PAGE.format(
        introduction=html.escape(INTRODUCTION),
        verdicts=table(("claim", "measured", "verdict"), claims),
        table=table(COLUMNS, rows),
        title=html.escape(TITLE),
        caption=html.escape(CAPTION),
        figures=shown,
        facts=table(("condition", "value"), facts),
    )
