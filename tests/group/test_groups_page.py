"""docs/groups.md: its table of abilities is what the groups do."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import equikernels.group
from equikernels.group import Group, canonical_word
from tests.test_documentation import REPOSITORY

PAGE = REPOSITORY / "docs" / "groups.md"
ROW = re.compile(r"^\| `(?P<group>[^`]+)` \| (?P<cells>(?:(?:yes|-) \| )*(?:yes|-)) \|$", re.MULTILINE)


def abilities(group: Group) -> list[bool]:
    """Whether the methods in the columns of the page's table answer for a random element, or raise."""

    def element() -> Any:
        return group.unbind(group.sample(1, generator=torch.Generator().manual_seed(0)))[0]

    columns = [
        [element],
        [lambda: group.exp(torch.zeros(group.lie_dim)), lambda: group.log(group.identity)],
        [lambda: group.quadrature(2)],
        [lambda: group.length(element()), lambda: group.diameter],
        [lambda: group.word_length(element())],
        [lambda: canonical_word(group, element())],
    ]
    answers = []
    for calls in columns:
        try:
            for call in calls:
                call()
            answers.append(True)
        except (ValueError, TypeError):
            answers.append(False)
    return answers


ROWS = [(row["group"], row["cells"].split(" | ")) for row in ROW.finditer(PAGE.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("group", "cells"), ROWS, ids=[group for group, _ in ROWS])
def test_table_of_abilities(group: str, cells: list[str]) -> None:
    assert abilities(eval(group, vars(equikernels.group))) == [cell == "yes" for cell in cells]


def test_every_group_class_is_on_the_page() -> None:
    assert len(ROWS) >= 14
    classes = [
        name
        for name in equikernels.group.__all__
        if isinstance(found := getattr(equikernels.group, name), type) and issubclass(found, Group)
    ]
    described = [row.partition("(")[0] for row, _ in ROWS]
    assert set(classes) - {"Group"} == set(described)
