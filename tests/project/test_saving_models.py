"""Saved softened models come back as they were; folders that are damaged or of another model are errors."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from equikernels.group import (
    SO2,
)
from equikernels.nn import SoftLinear
from equikernels.project import (
    AlreadySoftened,
    Hard,
    Rule,
    SavedFileError,
    Smooth,
    attention,
    check_soften_metadata,
    is_softened,
    linear,
    load_softened,
    raw_parameter,
    save_softened,
    soften,
    soften_metadata,
)
from equikernels.project.saving import read_softened
from tests.project.saving_samples import rotated, set_in
from tests.project.softening_samples import C4, D4, Net, convolutional


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
