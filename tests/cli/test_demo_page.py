"""index.html: well-formed, self-contained, and true to what it is given."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from equikernels.cli.demo.page import page
from equikernels.cli.demo.parts import FinishedPart
from equikernels.models.engine.miniature import Claim, Miniature, Picture
from tests.cli import demonstration

CONDITIONS = {"command": "equikernels demo --seed 4", "versions": {"torch": "<2>", "numpy": "3"}}
ALONE = {"meta", "img"}


class Outline(HTMLParser):
    """Elements, attributes and text; an element that is not closed in its turn is a mistake."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in ALONE:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def values(self, *names: str) -> list[str]:
        return [value for _, name, value in self.attributes if name in names]


def finished(name: str, *verdicts: bool | None) -> FinishedPart:
    return FinishedPart(name, demonstration.miniature(name, verdicts or (True,)), 12.3)


def test_page_is_well_formed_and_shows_everything() -> None:
    done = [finished("soft-equivariance", True, True, None), finished("spatial-vae", False)]
    outline = Outline(page(done, [], CONDITIONS))
    for part in done:
        found = part.miniature
        for said in (found.title, found.introduction, found.note, *found.headings, *found.rows[0]):
            assert said in outline.text
        for claim in found.claims:
            assert f"{claim.claim} {claim.measured} {claim.verdict}" in outline.text
        assert found.pictures[0].caption in outline.text
    assert "Claims: 2 hold, 1 fail. Observations: 1." in outline.text
    assert "equikernels demo --seed 4" in outline.text
    assert "torch <2>, numpy 3" in outline.text
    assert "Not done" not in outline.text
    assert "took 12 s" in outline.text


def test_page_leads_to_files_beside_it_and_to_its_own_sections() -> None:
    outline = Outline(page([finished("soft-equivariance"), finished("spatial-vae")], [], CONDITIONS))
    assert {value for value in outline.values("href", "src") if not value.startswith("#")} == {
        "soft_equivariance_line.png", "spatial_vae_line.png", "results.json",
    }  # fmt: skip
    inner = [value.removeprefix("#") for value in outline.values("href") if value.startswith("#")]
    assert inner == ["soft-equivariance", "spatial-vae"]
    ids = outline.values("id")
    assert set(inner) <= set(ids)
    assert len(set(ids)) == len(ids)
    assert outline.values("alt") == ["A line", "A line"]
    assert "viewport" in outline.values("name")


def test_nothing_given_is_taken_for_html() -> None:
    bad = "<script>alert('1')</script>"
    figure = demonstration.picture().figure
    miniature = Miniature(
        title=bad, introduction=bad, claims=[Claim(bad, bad, True)],
        pictures=[Picture("a", bad, bad, figure)], headings=(bad,), rows=[(bad,)], note=bad,
    )  # fmt: skip
    text = page([FinishedPart("spatial-vae", miniature, 0.0)], [bad], {bad: bad})
    assert "<script" not in text
    assert Outline(text).text.count(bad) == 13
    assert Outline(text).values("alt") == [bad]


@pytest.mark.parametrize(
    ("holds", "kind", "word"),
    [(True, "holds", "holds"), (False, "fails", "FAILS"), (None, "observed", "observed")],
)
def test_every_verdict_has_its_colour(holds: bool | None, kind: str, word: str) -> None:
    text = page([finished("spatial-vae", holds, True)], [], CONDITIONS)
    assert f'<span class="verdict {kind}">{word}</span>' in text
    assert re.search(rf"\.{kind} {{ background: #", text)


def test_page_without_a_finished_part_says_so() -> None:
    outline = Outline(page([], ["soft-equivariance", "spatial-vae"], CONDITIONS))
    assert "Not done, or not yet: soft-equivariance, spatial-vae." in outline.text
    assert "Claims: 0 hold, 0 fail." in outline.text


def test_a_part_without_a_table_has_none() -> None:
    miniature = Miniature("Part", "Nothing.", [Claim("it turns", "once", True)], [])
    text = page([FinishedPart("spatial-vae", miniature, 0.0)], [], CONDITIONS)
    assert text.count("<table") == 2  # claims and conditions
