"""docs/groups.md: its code prints what it shows, and its table of abilities is what the groups do."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import equikernels.group
from equikernels.group import Group, canonical_word
from tests.test_documentation import REPOSITORY, examples, run, same_print

PAGE = REPOSITORY / "docs" / "groups.md"
ROW = re.compile(r"^\| `(?P<group>[^`]+)` \| (?P<cells>(?:(?:yes|-) \| )*(?:yes|-)) \|$", re.MULTILINE)


def test_code_runs_in_order_and_prints_what_is_shown() -> None:
    found = examples(PAGE.read_text(encoding="utf-8"))
    assert len(found) >= 7
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for example in found:
        printed = run(example, namespace, "docs/groups.md")
        if example.printed is not None:
            assert same_print(example.printed, printed), f"docs/groups.md:{example.line} printed\n{printed}"


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
