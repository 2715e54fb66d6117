"""What a part of the demonstration may give, and what it may not."""

from __future__ import annotations

import re

import pytest
from matplotlib.figure import Figure

from equikernels.models.engine.miniature import Claim, Miniature, Picture

CLAIM = Claim("it turns", "once", True)


@pytest.mark.parametrize(("holds", "verdict"), [(True, "holds"), (False, "FAILS"), (None, "observed")])
def test_verdicts_have_words(holds: bool | None, verdict: str) -> None:
    assert Claim("it turns", "once", holds).verdict == verdict


@pytest.mark.parametrize("name", ["", "a b", "../a", "a.png", "trade-off", "größe", "a\n"])
def test_names_of_pictures_are_names_of_files(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"got {name!r}")):
        Picture(name, "A picture", "Nothing is on it.", Figure())


def test_pictures_share_no_name() -> None:
    pictures = [Picture("turns", title, "Nothing is on it.", Figure()) for title in ("One", "Two")]
    with pytest.raises(ValueError, match="pictures must have names of their own, got turns, turns"):
        Miniature("Turns", "Nothing was done.", [CLAIM], pictures)


def test_something_must_be_able_to_fail() -> None:
    seen = Claim("it was seen", "once", None)
    with pytest.raises(ValueError, match="at least one that can fail, got 2 observed"):
        Miniature("Turns", "Nothing was done.", [seen, seen], [])
    assert Miniature("Turns", "Nothing was done.", [seen, CLAIM], []).claims == [seen, CLAIM]


def test_rows_fit_their_headings() -> None:
    with pytest.raises(ValueError, match="rows must have 2 cells like headings, got 1"):
        Miniature("Turns", "Nothing was done.", [CLAIM], [], headings=("a", "b"), rows=[("1", "2"), ("3",)])
    with pytest.raises(ValueError, match="rows must have 0 cells"):
        Miniature("Turns", "Nothing was done.", [CLAIM], [], rows=[("1",)])
