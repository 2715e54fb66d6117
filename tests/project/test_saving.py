"""Saved projectors and models come back as they were; damaged files are one error that names them."""

import contextlib
import copy
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
from torch import nn

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
    Representation,
    SymmetricGroup,
    pixel_grid,
    voxel_grid,
)
from equikernels.nn import SoftLinear
from equikernels.project import (
    AlreadySoftened,
    BlockSmooth,
    EquivariantProjector,
    Hard,
    InvariantProjector,
    LearnableSmooth,
    ReleasedSmooth,
    Rule,
    SavedFileError,
    Smooth,
    Softness,
    SweepProjector,
    attention,
    check_soften_metadata,
    is_softened,
    linear,
    load_projector,
    load_softened,
    raw_parameter,
    save_projector,
    save_softened,
    soften,
    soften_metadata,
)
from equikernels.project.saving import MissingSafetensors, files, read_softened
from equikernels.testing.strategies import all_groups, cutoffs, random_weight, representations, seeds
from tests.project.softening_samples import C4, D4, Net, convolutional

SKEW = np.array([[0.0, -1.0], [1.0, 0.0]])
HALF = torch.zeros(4, 4, dtype=torch.bool)
HALF[1:3, 1:3] = True
Q8 = MatrixGroup(elements=[np.kron(np.eye(2), SKEW), np.kron(SKEW, np.diag([1.0, -1.0]))], name="Q_8")
C2, GRID = CyclicGroup(2), pixel_grid(3, C4)
PRODUCT = DirectProduct(DirectProduct(SO2(), CyclicGroup(3)), DihedralGroup(3))


def rotated(rep: Representation) -> Representation:
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((rep.dim, rep.dim)))
    return Representation(rep.group, rep.irreps, q, name="rotated")


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


def set_in(*keys):
    """A change of a description: the last one is the new value of the field that the others lead to."""

    def change(content):
        for key in keys[:-2]:
            content = content[key]
        content[keys[-2]] = keys[-1]

    return change


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


# -- softened models ---------------------------------------------------------------------------


def custom() -> nn.Module:
    torch.manual_seed(0)
    return Net().double()


def vectors() -> nn.Module:
    torch.manual_seed(0)
    rep = SO2().irrep(1)
    return nn.ModuleDict(
        {
            "attend": nn.MultiheadAttention(8, 2),
            "read": nn.Linear(8, 3),
            "built": SoftLinear(rep, SO2().trivial(), Smooth(0.5, 0.5), 4, 2),
            "table": nn.Embedding(16, 4),
        }
    )


def soften_vectors(model: nn.Module) -> None:
    rep = SO2().irrep(1)
    rules = (
        Rule("attend", nn.MultiheadAttention, attention(rep)),
        Rule("read", nn.Linear, linear(rep, SO2().trivial())),
    )
    soften(model, SO2(), cutoff=Smooth(0.5, 0.4), rules=rules, grid={"table": (4, 4)})


MODELS = {
    "convolutional": (convolutional, lambda model: soften(model, D4, softness=0.4)),
    "custom": (custom, lambda model: soften(model, C4, softness=0.4)),
    "vectors": (vectors, soften_vectors),
    "only built in": (
        lambda: nn.Sequential(SoftLinear(SO2().irrep(1), SO2().irrep(1), Hard(0.5))),
        lambda model: None,
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    make, soften_it = MODELS[name]
    model = make()
    soften_it(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    save_softened(model, tmp_path / "deep" / "folder")
    fresh = make()
    assert load_softened(fresh, tmp_path / "deep" / "folder") is fresh
    modules = dict(model.named_modules())
    for path, module in fresh.named_modules():
        assert is_softened(module) == is_softened(modules[path])
        assert type(module) is type(modules[path])
        for own in (name for name, value in module._parameters.items() if value is not None):
            assert torch.equal(getattr(module, own), getattr(modules[path], own)), (path, own)
            assert torch.equal(raw_parameter(module, own), raw_parameter(modules[path], own))


def test_the_weights_load_into_a_plain_model(tmp_path: Path) -> None:
    model = custom()
    soften(model, C4, softness=0.4)
    save_softened(model, tmp_path)
    plain = custom()
    plain.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(plain.conv.weight, raw_parameter(model, "conv.weight"))


def test_the_weights_say_how_they_were_softened(tmp_path: Path) -> None:
    model = vectors()
    soften_vectors(model)
    save_softened(model, tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata == soften_metadata(model)
    check_soften_metadata(model, metadata)


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


def test_projectors_are_written_once(tmp_path: Path) -> None:
    model = nn.Sequential(*(nn.Conv2d(1, 1, 3) for _ in range(5)))
    soften(model, C4, softness=0.4)
    save_softened(model, tmp_path)
    record = json.loads((tmp_path / "soften.json").read_text())
    assert (len(record["projectors"]), len(record["parameters"])) == (1, 5)
    projectors = {id(p.part.projector) for p in read_softened(tmp_path).parameters}
    assert len(projectors) == 1


def test_tied_weights_and_modules_used_twice(tmp_path: Path) -> None:
    def make() -> nn.Module:
        shared = nn.Conv2d(2, 2, 3, padding=1)
        model = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(3, 3), nn.Linear(3, 3))
        model[4].weight = model[3].weight
        return model

    model = make()
    soften(model, C4, softness=0.4)
    save_softened(model, tmp_path)
    again = load_softened(make(), tmp_path)
    assert again[0] is again[2]
    assert torch.equal(again[2].weight, model[0].weight)
    assert again[4].weight is again[3].weight


def test_models_that_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="model must be"):
        save_softened("model", tmp_path)
    with pytest.raises(ValueError, match="no softened parameters"):
        save_softened(nn.Conv2d(1, 1, 3), tmp_path)

    class Extra(nn.Conv2d):
        def get_extra_state(self):
            return {"a": 1}

    model = nn.Sequential(Extra(1, 1, 3))
    soften(model, C4, softness=0)
    with pytest.raises(TypeError, match="_extra_state is a dict"):
        save_softened(model, tmp_path)
    hidden = nn.Sequential(nn.Conv2d(1, 1, 3))
    soften(hidden, C4, softness=0)

    def hide(module, state, prefix, metadata) -> None:
        del state["0.weight"]

    hidden.register_state_dict_post_hook(hide)
    with pytest.raises(ValueError, match=r"does not hold 0\.weight"):
        save_softened(hidden, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = convolutional()
    soften(model, C4, softness=0.4)
    save_softened(model, tmp_path)
    return tmp_path


def assert_unloadable(folder: Path, message: str, model: nn.Module | None = None) -> None:
    model = convolutional() if model is None else model
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(SavedFileError, match=message) as caught:
        load_softened(model, folder)
    assert str(folder) in str(caught.value)
    assert not any(map(is_softened, model.modules()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_models_of_another_kind_are_refused(folder: Path) -> None:
    wider = convolutional()
    wider[0] = nn.Conv2d(1, 16, 5, padding=2)
    assert_unloadable(folder, r"0\.weight has shape \(8, 1, 5, 5\) in the file, \(16, 1, 5, 5\)", wider)
    other = convolutional()
    other[0] = nn.ConvTranspose2d(8, 1, 5)
    other[0].weight = nn.Parameter(torch.zeros(8, 1, 5, 5))
    other[0].bias = nn.Parameter(torch.zeros(8))
    assert_unloadable(folder, r"0\.weight belongs to a Conv2d in the file, to a ConvTranspose2d", other)
    longer = convolutional().append(nn.Linear(10, 2))
    assert_unloadable(folder, r"7\.weight is a tensor that the file has not", longer)
    assert_unloadable(folder, r"is a tensor that the model has not", convolutional()[:-1])
    softened = convolutional()
    soften(softened, C4, softness=0.4)
    with pytest.raises(AlreadySoftened, match="0 is softened already"):
        load_softened(softened, folder)
    with pytest.raises(TypeError, match="model must be"):
        load_softened(None, folder)


def test_layers_built_otherwise_are_refused(tmp_path: Path) -> None:
    def built(cutoff):
        return nn.Sequential(SoftLinear(SO2().irrep(1), SO2().irrep(1), cutoff))

    save_softened(built(Hard(0.5)), tmp_path)
    assert load_softened(built(Hard(0.5)), tmp_path)
    assert_unloadable(tmp_path, r"0\.weight is built with another projector", built(Hard(0.6)))
    both = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Linear(2, 2))
    soften(both, C4, softness=0)
    save_softened(both, tmp_path)
    mixed = nn.Sequential(nn.Conv2d(1, 1, 3), built(Hard(0.5))[0])
    assert_unloadable(tmp_path, r"1\.weight is soft as built in the model alone", mixed)


def record_with(folder: Path, change) -> None:
    path = folder / "soften.json"
    record = json.loads(path.read_text())
    record = change(record) or record
    path.write_text(record if isinstance(record, str) else json.dumps(record))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("format", "other"), "no record of an equikernels softened model"),
        (set_in("version", 2), "of version 2, but this release reads 1"),
        (set_in("tensors", "0" * 64), "projectors.safetensors beside it is damaged"),
        (set_in("projectors", []), "projector 0 is missing"),
        (set_in("parameters", 0, "module", "9"), r"9\.weight must have shape .* but it is missing"),
        (set_in("parameters", 0, "shape", [8, 1, 3, 3]), r"but it is of shape \(8, 1, 5, 5\)"),
        (set_in("parameters", 0, "part", {"layout": "pages"}), "layout 'pages' is unknown"),
        (set_in("parameters", 0, "part", {"layout": "kernels"}), "must have the fields layout, axes"),
        (set_in("parameters", 0, "part", {"layout": "kernels", "axes": 9}), "does not fit its projector"),
        (set_in("parameters", 0, "part", {"layout": "tokens", "leading": 0}), "does not fit its projector"),
        (set_in("parameters", 0, "projector", 1), "does not fit its projector"),
        (set_in("parameters", 0, "built_in", 1), "floating, softened or built in"),
        (set_in("projectors", 0, "cutoff", "s", 0.5), r"model.safetensors: 0\.weight softened otherwise"),
        (lambda record: " ", "Expecting value"),
        (lambda record: "[]", "no record"),
    ],
)
def test_changed_records_are_refused(folder: Path, change, message: str) -> None:
    record_with(folder, change)
    assert_unloadable(folder, message)


def test_incomplete_and_mixed_folders_are_refused(folder: Path, tmp_path_factory) -> None:
    other = tmp_path_factory.mktemp("other")
    model = nn.Sequential(nn.Linear(4, 4))
    rep = rotated(2 * SO2().irrep(1))
    soften(model, SO2(), softness=0.2, rules=(Rule("0", nn.Linear, linear(rep, rep)),))
    save_softened(model, other)
    record = (folder / "soften.json").read_bytes()
    (folder / "soften.json").write_bytes((other / "soften.json").read_bytes())
    assert_unloadable(folder, "projectors.safetensors beside it is damaged, or belongs to another record")
    (folder / "soften.json").write_bytes(record)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-8])
    assert_unloadable(folder, r"model\.safetensors: not a safetensors file, or a truncated one")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load_softened(convolutional(), folder)
    with pytest.raises(FileNotFoundError, match=r"soften\.json"):
        read_softened(folder / "nowhere")


def test_a_checkpoint_written_over_the_weights_still_loads(folder: Path) -> None:
    """Training goes on with any tool that writes a plain state_dict under the same name."""
    weights = load_file(folder / "model.safetensors")
    save_file({name: value + 1 for name, value in weights.items()}, folder / "model.safetensors")
    model = load_softened(convolutional(), folder)
    torch.testing.assert_close(raw_parameter(model, "0.weight"), weights["0.weight"] + 1)


def test_a_failed_load_restores_the_classes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = convolutional()

    def fail(*args, **kwargs):
        raise RuntimeError("no")

    monkeypatch.setattr(model, "load_state_dict", fail)
    with pytest.raises(RuntimeError, match="no"):
        load_softened(model, folder)
    assert not any(map(is_softened, model.modules()))
