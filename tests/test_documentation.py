"""The documentation is true: its code runs and prints what it says, and its links lead somewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import doctest
import io
import os
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
EXECUTED = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("docs/*.md"))]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("bench/*.md")])

BLOCK = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!\\)\]\((?P<target>[^)\s]+)(?:\s+\"[^\"]*\")?\)|(?:src|href)=\"(?P<html>[^\"]+)\"")
HEADING = re.compile(r"^#{1,6}\s+(?P<text>.+?)\s*#*\s*$", re.MULTILINE)
CODE_SPAN = re.compile(r"`[^`\n]*`")


@dataclasses.dataclass(frozen=True)
class Example:
    """A block of Python, and what it prints where a text block comes right after it."""

    line: int
    code: str
    printed: str | None


def examples(text: str) -> list[Example]:
    blocks = list(BLOCK.finditer(text))
    found = []
    for index, block in enumerate(blocks):
        if block["language"] != "python":
            continue
        following = blocks[index + 1] if index + 1 < len(blocks) else None
        shown = (
            following is not None
            and following["language"] == "text"
            and not text[block.end() : following.start()].strip()
        )
        line = text.count("\n", 0, block.start("body")) + 1
        found.append(Example(line, block["body"], following["body"] if following and shown else None))
    return found


def run(example: Example, namespace: dict[str, Any], page: str) -> str:
    """What the example prints. Its code is padded so that a traceback names the page's own lines."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile("\n" * (example.line - 1) + example.code, page, "exec"), namespace)
    return output.getvalue()


def same_print(expected: str, got: str) -> bool:
    """Equal up to white space; `...` stands for anything, as in doctest."""
    return doctest.OutputChecker().check_output(
        expected, got, doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )


@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_code_runs_in_order_and_prints_what_is_shown(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for extra in ("safetensors", "transformers"):
        pytest.importorskip(extra)
    found = examples(page.read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    name = page.relative_to(REPOSITORY).as_posix()
    for example in found:
        printed = run(example, namespace, name)
        if example.printed is not None:
            assert same_print(example.printed, printed), f"{name}:{example.line} printed\n{printed}"


def test_examples_are_found_and_judged() -> None:
    text = (
        "```python\nx = 2\n```\nwords\n```text\nnot its output\n```\n"
        "```python\nprint(x + 1)\n```\n\n```text\n3\n```\n```sh\nls\n```\n"
    )
    first, second = examples(text)
    assert (first.line, first.printed, second.printed) == (2, None, "3\n")
    namespace: dict[str, Any] = {}
    assert run(first, namespace, "page") == ""
    assert same_print(second.printed or "", run(second, namespace, "page"))
    assert not same_print("4\n", run(second, namespace, "page"))
    assert same_print("0.1...\n", "0.123\n")


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to headings: lower case, punctuation dropped, spaces to hyphens."""
    prose = BLOCK.sub("", text)
    names = [
        re.sub(r"[^\w\- ]", "", heading["text"].lower()).replace(" ", "-")
        for heading in HEADING.finditer(prose)
    ]
    seen: dict[str, int] = {}
    result = set()
    for name in names:
        count = seen.get(name, 0)
        result.add(f"{name}-{count}" if count else name)
        seen[name] = count + 1
    return result


def broken_links(page: Path) -> list[str]:
    text = CODE_SPAN.sub("", BLOCK.sub("", page.read_text(encoding="utf-8")))
    broken = []
    for match in LINK.finditer(text):
        target = match["target"] or match["html"]
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = unquote(target).partition("#")
        destination = (page.parent / path).resolve() if path else page
        if not destination.exists():
            broken.append(f"{target}: no such file")
        elif not destination.is_relative_to(page_root(page)):
            broken.append(f"{target}: outside the repository")
        elif anchor and destination.suffix == ".md" and anchor not in anchors(destination.read_text("utf-8")):
            broken.append(f"{target}: no such heading")
    return broken


def page_root(page: Path) -> Path:
    return REPOSITORY if page.is_relative_to(REPOSITORY) else page.parent


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_internal_links_resolve(page: Path) -> None:
    assert broken_links(page) == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# A heading, with `code`\n```sh\n# not a heading\n```\n")
    page.write_text(
        "[a](other.md) [b](other.md#a-heading-with-code) [c](https://example.org/x) [d](#none) "
        "[e](missing.md) [f](other.md#not-a-heading) `[g](code.md)` "
        '<img src="missing.png">\n# Mine\n[h](#mine)'
    )
    assert [link.partition(":")[0] for link in broken_links(page)] == [
        "#none", "missing.md", "other.md#not-a-heading", "missing.png",
    ]  # fmt: skip


# The first folder of an absolute path of one machine only; those of every system (/usr, /proc) are none.
MACHINE_PATH = re.compile(r"(?<![\w.~)}\]*/-])/(?:home|root|work|opt|mnt|media|scratch|Users|data)/\w")


def tracked_text_files() -> list[Path]:
    """What git tracks or would track; without git, every file that is not hidden or built."""
    if (REPOSITORY / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=REPOSITORY, capture_output=True, text=True, check=True,
        ).stdout.split("\0")  # fmt: skip
        paths = [REPOSITORY / name for name in listed if name]
    else:
        skipped = {"build", "dist", "demo_output", "__pycache__"}
        paths = []
        for place, folders, names in os.walk(REPOSITORY):
            folders[:] = [name for name in folders if name not in skipped and not name.startswith(".")]
            paths += [Path(place, name) for name in names]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:8192]]


def test_no_path_of_one_machine_in_any_text_file() -> None:
    files = [path for path in tracked_text_files() if path != Path(__file__)]
    assert len(files) > 10
    found = [
        f"{path.relative_to(REPOSITORY)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert found == []


def test_machine_paths_are_recognised() -> None:
    assert MACHINE_PATH.search('open("/home/someone/x")')
    assert MACHINE_PATH.search("see /scratch/project")
    assert not MACHINE_PATH.search("../shared/data/mnist, https://x.org/data/y, equikernels/models/data/z")
