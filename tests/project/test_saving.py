"""Saved projectors and models come back as they were; damaged files are one error that names them."""

import contextlib
import json
import math
import os
import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from equikernels.group import (
    O2,
    SO2,
    SO3,
    CubeGroup,
    CyclicGroup,
    DihedralGroup,
    DirectProduct,
    GridTranslations,
    Lorentz,
    MatrixGroup,
    PermutationRepresentation,
    SymmetricGroup,
    pixel_grid,
    voxel_grid,
)
from equikernels.project import (
    BlockSmooth,
    EquivariantProjector,
    Hard,
    InvariantProjector,
    LearnableSmooth,
    ReleasedSmooth,
    SavedFileError,
    Smooth,
    Softness,
    SweepProjector,
    load_projector,
    save_projector,
)
from equikernels.project.saving import MissingSafetensors, files
from equikernels.testing.strategies import all_groups, cutoffs, random_weight, representations, seeds
from tests.project.saving_samples import rotated, set_in
from tests.project.softening_samples import C4, D4

SKEW = np.array([[0.0, -1.0], [1.0, 0.0]])
HALF = torch.zeros(4, 4, dtype=torch.bool)
HALF[1:3, 1:3] = True
Q8 = MatrixGroup(elements=[np.kron(np.eye(2), SKEW), np.kron(SKEW, np.diag([1.0, -1.0]))], name="Q_8")
C2, GRID = CyclicGroup(2), pixel_grid(3, C4)
PRODUCT = DirectProduct(DirectProduct(SO2(), CyclicGroup(3)), DihedralGroup(3))


PROJECTORS = {
    "pixels permuted": EquivariantProjector(pixel_grid((2, 4), C2), pixel_grid(3, C2), Hard(1)),
    "pixels spectral": InvariantProjector(pixel_grid(5, O2()), Smooth(0.5, 0.3)),
    "pixels restricted": InvariantProjector(pixel_grid(5, CyclicGroup(8)), Softness(0.3, "up")),
    "pixels masked": InvariantProjector(pixel_grid(4, C4, mask=HALF), Softness(0.3)),
    "pixels in a disc": InvariantProjector(pixel_grid(5, SO2(), mask="disc"), Softness(0.5)),
    "pixels bilinear": InvariantProjector(pixel_grid(3, SO2(), method="bilinear"), Hard(0.7), method="svd"),
    "voxels": InvariantProjector(voxel_grid(3, CubeGroup()), Softness(0.2, "down")),
    "voxels in a ball": InvariantProjector(voxel_grid(3, SO2(), mask="ball"), Softness(0.2)),
    "voxels interpolated": InvariantProjector(voxel_grid(2, SO3()), Hard(0.5), method="svd"),
    "translations": InvariantProjector(GridTranslations(3, 2).regular(), Hard(1.5)),
    "regular": InvariantProjector(SymmetricGroup(3).regular(), Hard(1.1)),
    "index maps": EquivariantProjector(D4.regular(), D4.regular(), Softness(0.4), generators="given"),
    "own basis": EquivariantProjector(rotated(2 * SO3().irrep(1)), SO3().irrep(2), Hard(math.inf)),
    "product": InvariantProjector(PRODUCT.defining(), Softness(0.5)),
    "matrix group": EquivariantProjector(Q8.defining(), Q8.defining(), Softness(0.5)),
    "not compact": EquivariantProjector(Lorentz().irrep(1), Lorentz().irrep(1), Hard(0.1)),
    "iterative": InvariantProjector(2 * SO3().irrep(1), Hard(0.5), method="iterative"),
    "blocks": EquivariantProjector(GRID, GRID, BlockSmooth(0.5, 2.0), method="schur"),
    "released": InvariantProjector(SO2().irrep(2), ReleasedSmooth(0.5, 3.0)),
    "learnable": InvariantProjector(SO2().regular(3), LearnableSmooth(0.7, 0.2)),
    "operators": EquivariantProjector.from_operators([SKEW, 2 * SKEW], [SKEW, 2 * SKEW], Hard(1.5)),
    "one operator": InvariantProjector.from_operators([np.kron(SKEW, np.eye(3))], Smooth(0.1, 0.5)),
}  # fmt: skip


def round_trip(projector: EquivariantProjector) -> EquivariantProjector:
    with tempfile.TemporaryDirectory() as folder:
        save_projector(projector, Path(folder) / "p.safetensors")
        return load_projector(Path(folder) / "p.safetensors")


def assert_alike(first: EquivariantProjector, second: EquivariantProjector, seed: int = 0) -> None:
    """Equal print, route, projection and certificate; 1e-12 because equal inputs take equal paths."""
    assert type(first) is type(second)
    assert repr(first).partition("LearnableSmooth")[0] == repr(second).partition("LearnableSmooth")[0]
    assert (first.route, first.method, first.shape) == (second.route, second.method, second.shape)
    assert (first.rep_in, first.rep_out) == (second.rep_in, second.rep_out)
    m, n = first.shape
    w = random_weight(2 * m, 3 * n, seed)
    torch.testing.assert_close(first(w), second(w), rtol=0, atol=1e-12)
    if first.rep_in is not None and not first.rep_in.is_orthogonal:
        return
    one, two = first.certificate(w), second.certificate(w)
    for kind in ("prior", "posterior"):
        for norm in ("frobenius", "operator"):
            assert one.supremum(kind, norm) == pytest.approx(two.supremum(kind, norm), abs=1e-12)


@pytest.mark.parametrize("name", PROJECTORS)
def test_projectors_come_back_as_they_were(name: str) -> None:
    assert_alike(PROJECTORS[name], round_trip(PROJECTORS[name]))


@settings(max_examples=60)
@given(st.data())
def test_random_projectors_come_back_as_they_were(data: st.DataObject) -> None:
    group = data.draw(all_groups)
    rep_in, rep_out = data.draw(representations(group)), data.draw(representations(group))
    generators = data.draw(st.sampled_from(["closed", "given"]))
    P = EquivariantProjector(rep_in, rep_out, data.draw(cutoffs), generators=generators)
    again = round_trip(P)
    if group.is_compact:
        assert_alike(P, again, data.draw(seeds))
    assert repr(P) == repr(again)


def test_what_is_trained_comes_back_to_the_last_bit() -> None:
    cutoff = LearnableSmooth(1.0, 0.3)
    with torch.no_grad():
        cutoff.cutoff.fill_(-0.1)  # training may carry it below zero
        cutoff.log_width.fill_(math.log(0.3) + 1e-16)
    again = round_trip(InvariantProjector(SO2().regular(2), cutoff)).cutoff
    assert isinstance(again, LearnableSmooth)
    assert torch.equal(again.cutoff, cutoff.cutoff)
    assert torch.equal(again.log_width, cutoff.log_width)


def test_names_and_shared_representations_come_back(tmp_path: Path) -> None:
    rep = PermutationRepresentation(C4, np.array([1, 2, 3, 0]), name="corners")
    save_projector(EquivariantProjector(rep, rep, Softness(0.5)), tmp_path / "p")
    again = load_projector(tmp_path / "p")
    assert repr(again.rep_in) == "corners of C_4"
    assert again.rep_in is again.rep_out
    assert len(load_file(tmp_path / "p")) == 1


class Own:
    """A cut-off of the user's own."""

    def response(self, spectrum):
        return np.ones(spectrum.values.size)


class Mine(CyclicGroup):
    """A group of the user's own."""


def test_what_cannot_be_saved_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    rep = SO2().irrep(1)
    cases = {
        "the cut-off": InvariantProjector(rep, Own()),
        "only SO2, .* can, got Mine": InvariantProjector(Mine(4).irrep(1), Hard(1.0)),
        "projector must be": SweepProjector(rep, rep, Hard(1.0)),
    }
    for message, projector in cases.items():
        with pytest.raises(TypeError, match=message):
            save_projector(projector, tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


# -- damaged files -----------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "projector.safetensors"
    save_projector(PROJECTORS["own basis"], path)
    return path


def rewritten(path: Path, change, tensors=None) -> None:
    """The same file with its description changed."""
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    content = json.loads(metadata["content"])
    content = change(content) or content
    metadata["content"] = content if isinstance(content, str) else json.dumps(content)
    save_file(load_file(path) if tensors is None else tensors, path, metadata=metadata)


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(SavedFileError, match=message) as caught:
        load_projector(path)
    assert str(path) in str(caught.value)


@given(st.data())
@settings(max_examples=40)
def test_a_truncated_file_is_refused(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.safetensors"
        save_projector(PROJECTORS["own basis"], path)
        content = path.read_bytes()
        path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
        assert_refused(path, "not a safetensors file, or a truncated one")


def test_foreign_files_are_refused(saved: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("this is no tensor file at all, it only looks like one from far away")
    assert_refused(text, "not a safetensors file")
    save_file({"weight": torch.zeros(3)}, text)
    assert_refused(text, "no equikernels projector")
    assert_refused(tmp_path, "not a regular file")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_projector(tmp_path / "nowhere")
    with safe_open(saved, "pt") as file:
        metadata = dict(file.metadata())
    save_file(load_file(saved), saved, metadata=metadata | {"version": "2"})
    assert_refused(saved, "of version '2', but this release reads version '1'")
    del metadata["content"]
    save_file(load_file(saved), saved, metadata=metadata)
    assert_refused(saved, "its description is missing")


REP = ("representations", 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in(*REP, "group", "class", "system"), "a group must be one of"),
        (set_in(*REP, "group", {"class": "CyclicGroup", "n": 0}), "n of CyclicGroup must be an integer >= 1"),
        (set_in(*REP, "group", {"class": "CyclicGroup"}), "must have the fields class, n"),
        (set_in(*REP, "kind", "pickle"), "kind 'pickle' is unknown"),
        (set_in(*REP, "irreps", [[1, 3]]), r"change_of_basis must have shape"),
        (set_in(*REP, "irreps", [[-1, 2]]), "label|degree"),
        (set_in(*REP, "irreps", [[1, 2, 3]]), "irreps must be pairs"),
        (set_in(*REP, "irreps", {"tuple": []}), "irreps must be a list"),
        (set_in(*REP, "basis", "other"), "the tensor 'other' is missing"),
        (set_in(*REP, "name", 3), "must be a string"),
        (set_in("projector", "rep_in", 7), "representation 7 is missing"),
        (set_in("projector", "rep_in", True), "must be an integer"),
        (set_in("projector", "cutoff", "class", "Own"), "a cut-off must be one of"),
        (set_in("projector", "cutoff", {"class": "Hard", "cutoff": "1"}), "cutoff of Hard must be a number"),
        (set_in("projector", "cutoff", {"class": "Smooth", "cutoff": 1, "width": 0}), "width must be"),
        (set_in("projector", "method", "magic"), "method must be one of"),
        (set_in("projector", "class", "Eval"), "a projector must be one of"),
        (set_in("projector", "extra", 1), "must have the fields"),
        (lambda content: "{not json", "Expecting property name"),
        (lambda content: '{"projector": NaN, "representations": []}', "NaN is no JSON number"),
        (lambda content: "[]", "the content must have the fields"),
        (lambda content: "[" * 100_000, "recursion"),
    ],
)  # fmt: skip
def test_changed_descriptions_are_refused(saved: Path, change, message: str) -> None:
    rewritten(saved, change)
    assert_refused(saved, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.float(), r"must be torch.float64 with 2 axes, got torch.float32"),
        (lambda t: t[:-1], "change_of_basis must have shape"),
        (lambda t: t.flatten(), "must be torch.float64 with 2 axes"),
        (lambda t: 2 * t, "change_of_basis must be orthogonal"),
        (lambda t: t * math.nan, "change_of_basis must be orthogonal"),
    ],
)
def test_changed_tensors_are_refused(saved: Path, change, message: str) -> None:
    rewritten(saved, lambda content: None, {k: change(v).contiguous() for k, v in load_file(saved).items()})
    assert_refused(saved, message)


def test_a_failed_write_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        save_projector(PROJECTORS["voxels"], saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_files_get_the_usual_permissions(saved: Path) -> None:
    (saved.parent / "usual").touch()
    usual = os.stat(saved.parent / "usual").st_mode
    assert stat.S_IMODE(saved.stat().st_mode) == stat.S_IMODE(usual)


def test_without_safetensors_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.importlib.util, "find_spec", lambda name: None)
    for call in (lambda p: save_projector(PROJECTORS["voxels"], p), load_projector):
        with pytest.raises(MissingSafetensors, match=r"extra `models`.*pip install 'equikernels\[models\]'"):
            call(tmp_path / "p")


json_values = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=3), st.sampled_from(["SO2", "CyclicGroup", "inf", "irreps", "pixels", "schur"]),
    st.just([]), st.just({}), st.just([[1, 2]]), st.just({"tuple": [1]}), st.just({"class": "SO3"}),
)  # fmt: skip


def places_of(content, path=()):
    """The paths to every value inside a JSON document."""
    yield path
    if isinstance(content, (dict, list)):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places_of(content[key], (*path, key))


@given(st.sampled_from(sorted(set(PROJECTORS) - {"voxels in a ball"})), st.data())
@settings(max_examples=100)
def test_any_changed_value_is_refused_or_makes_another_projector(name, data) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.safetensors"
        save_projector(PROJECTORS[name], path)
        with safe_open(path, "pt") as file:
            content = json.loads(file.metadata()["content"])
        place = data.draw(st.sampled_from(list(places_of(content))[1:]))
        rewritten(path, set_in(*place, data.draw(json_values)))
        with contextlib.suppress(SavedFileError):
            assert isinstance(load_projector(path), EquivariantProjector)
