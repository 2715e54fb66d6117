"""Windows of tracks: which there are, where they begin, what they hold."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equikernels.models.data import DataError, load_dataset
from equikernels.models.data.readers.trajectories import Tracks, _windows
from tests.models.data.samples import everything, track, write_scenes, write_tracks


def test_windows_of_two_pedestrians(tmp_path: Path) -> None:
    lines = track(7, range(0, 60, 10), (1.0, 2.0)) + track(3, range(100, 150, 10), (-1.0, 0.0))
    np.random.default_rng(0).shuffle(lines)
    batch = everything(load_dataset(write_tracks(tmp_path, lines), observe=3, predict=2))
    assert batch["pedestrian"].tolist() == [3, 7, 7]
    assert batch["frame"].tolist() == [100, 0, 10]
    assert batch["observed"].shape == (3, 3, 2)
    assert batch["future"].shape == (3, 2, 2)
    assert batch["observed"].dtype == torch.float32
    whole = torch.cat((batch["observed"], batch["future"]), dim=1)
    steps = torch.tensor([0.5, 0.25]) * torch.arange(5.0)[:, None]
    starts = torch.tensor([[-1.0, 0.0], [1.0, 2.0], [1.5, 2.25]])
    assert torch.allclose(whole, starts[:, None] + steps)


def test_no_window_crosses_a_gap(tmp_path: Path) -> None:
    lines = track(1, range(0, 40, 10)) + track(1, range(50, 90, 10))
    frames = everything(load_dataset(write_tracks(tmp_path, lines), observe=2, predict=2))["frame"]
    assert frames.tolist() == [0, 50]


def test_the_step_is_each_files_most_frequent(tmp_path: Path) -> None:
    write_tracks(tmp_path, [*track(1, range(0, 60, 10)), "55 1 0 0"], "tens.txt")
    write_tracks(tmp_path, track(1, range(0, 36, 6)), "sixes.txt")
    dataset = load_dataset(tmp_path, observe=3, predict=2)
    assert dataset.fields["file"].classes == ("sixes.txt", "tens.txt")
    batch = everything(dataset)
    assert list(zip(batch["file"].tolist(), batch["frame"].tolist(), strict=True)) == [
        (0, 0), (0, 6), (1, 0), (1, 10),
    ]  # fmt: skip


def test_scenes(tmp_path: Path) -> None:
    write_scenes(tmp_path)
    train = everything(load_dataset(tmp_path, scene="square", split="train", observe=3, predict=2))
    test = everything(load_dataset(tmp_path, scene="square", split="test", observe=3, predict=2))
    assert train["pedestrian"].tolist() == [1, 1]
    assert test["pedestrian"].tolist() == [2, 2, 2, 2]
    with pytest.raises(DataError, match=r"splits.json: expected the option scene=, one of square, got None"):
        load_dataset(tmp_path)
    with pytest.raises(
        DataError, match=r"splits.json: expected the option split=, one of train, test, got 'val'"
    ):
        load_dataset(tmp_path, scene="square", split="val")
    with pytest.raises(DataError, match=r"a.txt: expected a folder with splits.json for scene= and split="):
        load_dataset(tmp_path / "a.txt", scene="square")
    (tmp_path / "b.txt").unlink()
    with pytest.raises(
        DataError, match=r"splits.json: expected files of .* for square, test, got 'b.txt', which"
    ):
        load_dataset(tmp_path, scene="square", split="test")


@pytest.mark.parametrize("name", ["observe", "predict", "stride"])
@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_wrong_lengths(name: str, value: object, tmp_path: Path) -> None:
    path = write_tracks(tmp_path, track(1, range(0, 60, 10)))
    with pytest.raises(ValueError, match=f"{name}: expected a positive integer, got {value}"):
        load_dataset(path, **{name: value})


@given(
    seen=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=1, max_size=60, unique=True),
    length=st.integers(1, 6),
    stride=st.integers(1, 4),
)
def test_windows_are_all_the_runs_there_are(seen: list[tuple[int, int]], length: int, stride: int) -> None:
    """Against a search that looks for every frame of every window in a set."""
    seen = sorted(seen, key=lambda pair: (pair[1], pair[0]))
    frames, people = np.array(seen).T
    positions = np.stack((frames, people), axis=1).astype(np.float32)
    found = _windows(Tracks(frames, people, positions), length, stride)
    differences = [b[0] - a[0] for a, b in itertools.pairwise(seen) if a[1] == b[1]]
    # Of equally frequent steps the smallest.
    step = min(differences, key=lambda d: (-differences.count(d), d)) if differences else 1
    there, expected = set(seen), []
    for frame, person in seen:
        run = 0
        while (frame - (run + 1) * step, person) in there and _next(
            seen, frame - (run + 1) * step, person
        ) == step:
            run += 1
            frame_before = frame - run * step
            assert frame_before >= 0
        whole = all(
            (frame + i * step, person) in there
            and (i == 0 or _next(seen, frame + (i - 1) * step, person) == step)
            for i in range(length)
        )
        if whole and run % stride == 0:
            expected.append((frame, person))
    assert list(zip(found.frames.tolist(), found.pedestrians.tolist(), strict=True)) == expected
    for start, window in zip(expected, found.positions, strict=True):
        assert window.tolist() == [[start[0] + i * step, start[1]] for i in range(length)]


def _next(seen: list[tuple[int, int]], frame: int, person: int) -> int:
    """How far the next frame of a person is."""
    later = [f for f, p in seen if p == person and f > frame]
    return min(later) - frame if later else 0
