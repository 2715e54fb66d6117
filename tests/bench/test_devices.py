"""The benchmarks' measure of memory, against sizes known in advance."""

from __future__ import annotations

import pytest
import torch

from bench import gpu_session
from bench.devices import peak_mb


def test_the_peak_is_what_is_held_at_one_time() -> None:
    x = torch.zeros(1000, 250)  # a megabyte
    assert peak_mb(lambda: x + 1, "cpu") == pytest.approx(1, abs=0.01)
    assert peak_mb(lambda: [x + 1 for _ in range(5)], "cpu") == pytest.approx(5, abs=0.01)

    def one_after_another() -> None:
        for _ in range(5):
            x + 1

    assert peak_mb(one_after_another, "cpu") == pytest.approx(1, abs=0.01)


def test_a_machine_without_a_gpu_is_told_so(
    tmp_path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_session.main([str(tmp_path / "out")]) == 1
    assert capsys.readouterr().err == "bench.gpu_session: PyTorch sees no GPU here\n"
    assert not (tmp_path / "out").exists()


def test_a_step_reports_how_it_ended(tmp_path) -> None:
    assert gpu_session.run("fine", ["-c", "print('here')"], tmp_path, 60) == "done"
    assert (tmp_path / "fine.log").read_text() == "here\n"
    assert gpu_session.run("bad", ["-c", "raise SystemExit(3)"], tmp_path, 60) == "failed with status 3"
    assert (
        gpu_session.run("slow", ["-c", "import time; time.sleep(60)"], tmp_path, 0.5)
        == "stopped: out of time"
    )
    assert gpu_session.run("late", ["-c", ""], tmp_path, -1) == "no time left"
