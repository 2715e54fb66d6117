"""Tables as text and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Columns side by side under their headings.

    >>> print(text_table(("a", "b"), [("1", "two")]))
    a  b
    -  ---
    1  two
    """
    widths = [max(len(line[k]) for line in (head, *lines)) for k in range(len(head))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (head, rule, *lines)
    )


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """The same as Markdown.

    >>> print(markdown_table(("a",), [("1",)]))
    | a |
    | --- |
    | 1 |
    """
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def number(value: float | None, absent: str = "none") -> str:
    """A number in three digits, or what is said where there is none.

    >>> number(0.12345), number(None), number(1e-17)
    ('0.123', 'none', '1e-17')
    """
    return absent if value is None else f"{value:.3g}"
