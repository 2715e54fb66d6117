"""``equikernels demo``: the order of its parts, its files, its verdicts, and what it says to mistakes."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from equikernels.cli import UserError, demo, main
from equikernels.cli.demo import parts
from equikernels.models.engine.miniature import Miniature, Report
from equikernels.models.soft_equivariance import miniature as soft
from tests.cli import demonstration
from tests.cli.demonstration import NAMES


def results_in(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "results.json").read_text())
    return content


def names_in(out: Path) -> list[str]:
    return [part["part"] for part in results_in(out)["parts"]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run with seed 4 leaves."""
    out = tmp_path_factory.mktemp("demo") / "made" / "here"
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(2)
    with pytest.MonkeyPatch.context() as monkeypatch:
        demonstration.use(monkeypatch)
        assert demo.run(out, 4) == 0
    assert torch.get_num_threads() == 2
    torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), state)
    return out


# -- parts -------------------------------------------------------------------------------------------------


def test_there_is_a_part_for_each_paper() -> None:
    assert [module.rsplit(".", 2)[1] for module in parts.PARTS.values()] == [
        "soft_equivariance", "latent_actions", "spatial_vae", "rotational_vae",
    ]  # fmt: skip
    assert [name.replace("-", "_") for name in NAMES] == [
        module.rsplit(".", 2)[1] for module in parts.PARTS.values()
    ]


def test_parts_are_done_in_their_order_by_one_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int, int]] = []

    def noted(name: str) -> demonstration.Run:
        def run(seed: int, report: Report) -> Miniature:
            seen.append((name, seed, torch.get_num_threads()))
            return demonstration.miniature(name)

        return run

    demonstration.use(monkeypatch, **{name.replace("-", "_"): noted(name) for name in NAMES})
    assert demo.run(tmp_path, 3) == 0
    assert seen == [(name, 3, 1) for name in NAMES]
    seen.clear()
    demo.run(tmp_path, 3, ["rotational-vae", "latent-actions", "rotational-vae"])
    assert [name for name, *_ in seen] == ["latent-actions", "rotational-vae"]


def test_a_part_gives_the_same_numbers_alone(
    written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demonstration.use(monkeypatch)
    demo.run(tmp_path, 4, ["spatial-vae"])
    (alone,) = results_in(tmp_path)["parts"]
    (among,) = [part for part in results_in(written)["parts"] if part["part"] == "spatial-vae"]
    del alone["seconds"], among["seconds"]
    assert alone == among
    demo.run(tmp_path, 5, ["spatial-vae"])
    assert results_in(tmp_path)["parts"][0]["rows"] != among["rows"]


def test_an_error_names_its_part_and_leaves_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(seed: int, report: Report) -> Miniature:
        assert names_in(tmp_path) == list(NAMES[:2])  # what is done is on the disk already
        raise ArithmeticError("no such number")

    demonstration.use(monkeypatch, spatial_vae=broken)
    with pytest.raises(ArithmeticError, match="no such number") as caught:
        demo.run(tmp_path, 0)
    (note,) = caught.value.__notes__
    assert "part spatial-vae" in note
    assert str(tmp_path) in note
    assert names_in(tmp_path) == list(NAMES[:2])
    assert results_in(tmp_path)["not done"] == list(NAMES[2:])
    page = (tmp_path / "index.html").read_text()
    assert "Not done, or not yet: spatial-vae, rotational-vae." in page
    assert "Part latent-actions" in page
    assert (tmp_path / "latent_actions_line.png").exists()


def test_no_page_of_an_earlier_run_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(seed: int, report: Report) -> Miniature:
        raise ArithmeticError

    demonstration.use(monkeypatch)
    demo.run(tmp_path, 0)
    demonstration.use(monkeypatch, soft_equivariance=broken)
    with pytest.raises(ArithmeticError):
        demo.run(tmp_path, 1)
    assert names_in(tmp_path) == []
    assert "--seed 1" in (tmp_path / "index.html").read_text()


# -- files and output --------------------------------------------------------------------------------------


def test_folder_has_figures_numbers_and_a_page(written: Path) -> None:
    figures = {f"{name.replace('-', '_')}_line.png" for name in NAMES}
    assert {path.name for path in written.iterdir()} == figures | {"index.html", "results.json"}
    for name in figures:
        assert (written / name).read_bytes().startswith(b"\x89PNG")
    content = results_in(written)
    assert content["not done"] == []
    assert content["conditions"]["command"] == "equikernels demo --seed 4"
    assert content["conditions"]["versions"]["torch"] == torch.__version__
    assert names_in(written) == list(NAMES)
    first = content["parts"][0]
    assert [claim["verdict"] for claim in first["claims"]] == ["holds", "observed"]
    assert first["headings"] == ["what", "how much"]
    assert first["pictures"] == ["soft_equivariance_line.png"]


def test_output_is_plain_lines_without_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    demonstration.use(monkeypatch)
    demo.run(tmp_path, 0)
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\r" not in printed
    # The folder's name is as long as it is.
    assert max(map(len, printed.replace(str(tmp_path), "").splitlines())) <= 120
    lines = [line.partition(":")[0] for line in printed.splitlines() if re.search(r": \d+\.\d s$", line)]
    assert lines == list(NAMES)
    assert str(tmp_path / "index.html") in printed
    claims = re.findall(r"(\S+) claims \d .* (holds|observed|FAILS) ", printed)
    assert claims == [(name, verdict) for name in NAMES for verdict in ("holds", "observed")]


def test_a_terminal_has_a_bar_for_each_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    demonstration.use(monkeypatch)
    demo.run(tmp_path, 0)
    printed = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    for name in NAMES:
        assert re.search(rf"\r{name} +\S+ 2/2 \d:\d\d:\d\d", printed)
    assert not re.search(r": \d+\.\d s", printed)  # no plain lines beside the bars


def test_output_is_ascii_where_nothing_else_can_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    demonstration.use(monkeypatch)
    assert demo.run(tmp_path / "größe", 0) == 0
    stream.seek(0)
    printed = stream.read()
    assert re.search(r"\d \+- 0 ", printed)
    assert "gr??e" in printed


def test_a_failing_claim_fails_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = demonstration.part("latent-actions", (True, False, None))
    demonstration.use(monkeypatch, latent_actions=failing)
    assert main(["demo", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"latent-actions claims 1 .*FAILS", printed)
    assert "1 of these claims failed" in printed
    assert names_in(tmp_path) == list(NAMES)  # a claim that fails does not stop the others
    assert main(["demo", "--out", str(tmp_path), "--parts", "spatial-vae"]) == 0
    assert "failed" not in capsys.readouterr().out


def test_digits_under_turns_are_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = soft.Settings(softness=(0.0, 0.5), epochs=1, hidden=8, seeds=1, test_images=40, random_angles=2)
    whole = soft.run
    monkeypatch.setattr(soft, "run", lambda seed, report: whole(seed, report, tiny))
    out = tmp_path / "out"
    assert main(["demo", "--parts", "soft-equivariance", "--out", str(out)]) == 0
    assert re.search(r"soft-equivariance.* measured error never.* holds", capsys.readouterr().out)
    assert results_in(out)["parts"][0]["claims"][0]["measured"].endswith(f"over {2 * 40 * (4 + 14)} checks")
    assert {path.name for path in out.glob("*.png")} == {
        f"soft_equivariance_{name}.png" for name in soft.figures.CAPTIONS
    }
    assert results_in(out)["conditions"]["command"] == "equikernels demo --seed 0 --parts soft-equivariance"


# -- mistakes ----------------------------------------------------------------------------------------------


def test_an_unknown_part_is_one_line_that_names_them_all(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--parts", "spatial-vae", "magic", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "argument --parts" in error
    assert "'magic'" in error
    assert ", ".join(NAMES) in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("below", ["", "folder"], ids=["the file itself", "a folder below a file"])
def test_a_file_for_a_folder_is_one_line_and_code_2(
    below: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    assert main(["demo", "--out", str(file / below)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--out" in error
    assert file.read_text() == "precious"


def test_a_folder_that_cannot_be_written_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(demo.tempfile, "TemporaryFile", refused)
    monkeypatch.setattr(demo, "perform", lambda *_: pytest.fail("worked in spite of it"))
    with pytest.raises(UserError, match=r"cannot write to .*: Permission denied") as caught:
        demo.run(tmp_path, 0)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_out_of_range_is_refused(seed: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="argument --seed") as caught:
        demo.run(tmp_path, seed)
    assert caught.value.exit_code == 2
