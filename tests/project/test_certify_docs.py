"""The page on certificates is true: its code runs in order and prints what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.test_documentation import examples, run, same_print

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "certify.md"


def test_the_code_of_the_page_prints_what_is_shown() -> None:
    pytest.importorskip("safetensors")
    found = examples(PAGE.read_text(encoding="utf-8"))
    assert len(found) >= 6
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for example in found:
        printed = run(example, namespace, "docs/certify.md")
        assert example.printed is not None
        assert same_print(example.printed, printed), f"docs/certify.md:{example.line} printed\n{printed}"
