"""Certificates of softened parameters: no error exceeds its bound, and what is absent is said in words."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from equikernels.group import (
    O2,
    O3,
    SO2,
    SO3,
    CubeGroup,
    CyclicGroup,
    DihedralGroup,
    DirectProduct,
    GridTranslations,
    Lorentz,
    SymmetricGroup,
    pixel_grid,
    voxel_grid,
)
from equikernels.nn import SoftLinear
from equikernels.project import (
    EquivariantProjector,
    Hard,
    InvariantProjector,
    Rule,
    SavedFileError,
    Smooth,
    Softness,
    certify_directory,
    layer_certificates,
    linear,
    save_softened,
    soften,
)
from equikernels.project.adapting.parts import Kernels, Tokens, Whole
from equikernels.project.certification import layers
from equikernels.project.certification.layers import certify_parameters
from equikernels.project.certification.tables import text_table
from equikernels.testing.strategies import all_groups, cutoffs, random_weight, representations, seeds
from tests.project.softening_samples import C4, D4, Net, convolutional

TORUS = DirectProduct(SO2(), CyclicGroup(3))


def row_of(projector: EquivariantProjector, weight: torch.Tensor, radius: float | None = None):
    return certify_parameters([("layer", "Linear", "weight", Whole(projector), weight)], radius, 8, 0)[0]


@given(st.data())
@settings(max_examples=80)
def test_no_measured_error_exceeds_its_bound(data: st.DataObject) -> None:
    group = data.draw(all_groups)
    rep_in, rep_out = data.draw(representations(group)), data.draw(representations(group))
    P = EquivariantProjector(rep_in, rep_out, data.draw(cutoffs))
    radius = data.draw(st.sampled_from([None, 0.0, 0.3, 2.0]))
    row = row_of(P, random_weight(2 * rep_out.dim, rep_in.dim, data.draw(seeds)), radius)
    assert row.holds is not False, row
    if row.holds is None:
        assert row.note
        assert row.verdict in ("no bound", "not measured")
        return
    assert row.verdict == "holds"
    assert 0 <= row.measured <= min(row.prior, row.posterior) + 1e-9
    assert row.measured_operator <= row.posterior_operator + 1e-9
    assert max(row.prior, row.posterior) <= 2 + 1e-9
    if radius is not None:
        assert row.posterior_at <= row.posterior + 1e-9
        assert row.prior_at <= row.prior + 1e-9


@pytest.mark.parametrize(
    "group",
    [SO3(), O3(), O2(), CubeGroup(), SymmetricGroup(3), TORUS, GridTranslations(2, 3)],
    ids=repr,
)  # fmt: skip
def test_groups_of_every_kind_are_measured(group) -> None:
    rep = group.defining()
    row = row_of(EquivariantProjector(rep, rep, Softness(0.5)), random_weight(rep.dim, 2 * rep.dim, 0), 0.5)
    assert row.holds is True
    assert 1e-3 < row.measured <= row.posterior
    assert row.elements == (group.order or 8 + len(group.discrete_elements) + 8)
    assert row.exhaustive == (group.order is not None)
    assert row.worst


def test_one_generator_attains_its_posterior_bound() -> None:
    """C_n: the certificate is exact, and all elements are looked at."""
    grid = pixel_grid(4, C4)
    row = row_of(EquivariantProjector(grid, grid, Softness(0.5)), random_weight(16, 16, 0))
    assert row.measured == pytest.approx(row.posterior, rel=1e-9)
    assert row.measured > 0.5


def test_strict_layers_are_exact() -> None:
    model = convolutional()
    soften(model, D4, softness=0)
    table = layer_certificates(model)
    assert [(row.layer, row.type, row.parameter) for row in table] == [
        ("0", "Conv2d", "weight"), ("3", "Conv2d", "weight"),
    ]  # fmt: skip
    for row in table:
        assert max(row.prior, row.posterior, row.measured) < 1e-9
        assert row.holds is True
        assert row.exhaustive


def test_every_layout_is_certified_as_the_rows_it_projects() -> None:
    model = Net().double()
    soften(model, C4, softness=0.4)
    own, conv = layer_certificates(model)
    assert (own.layer, own.type, own.parameter) == ("", "Net", "pos_embed")
    for row, weight, side in (
        (own, model._parameters["pos_embed"][0, 1:].T, 4),
        (conv, model.conv._parameters["weight"].reshape(12, 9), 3),
    ):
        expected = InvariantProjector(pixel_grid(side, C4), Softness(0.4)).certificate(weight)
        assert row.posterior == pytest.approx(expected.relative, rel=1e-12)
        assert row.paper == pytest.approx(expected.paper_eta.eta)
    volume = nn.Sequential(nn.Conv3d(1, 2, 3))
    soften(volume, C4, softness=0.3)
    assert layer_certificates(volume)[0].holds is True
    assert layer_certificates(nn.Sequential(nn.Linear(2, 2))).rows == ()


def test_layers_soft_as_built_are_certified() -> None:
    rep = SO2().irrep(1)
    model = nn.Sequential(
        SoftLinear(rep, rep, Smooth(0.5, 0.5), 2, 3), SoftLinear(rep, rep, Hard(3), bias=False)
    )
    rows = layer_certificates(model, radius=0.1)
    assert [(row.layer, row.parameter) for row in rows] == [("0", "weight"), ("0", "bias"), ("1", "weight")]
    certificate = model[0].double().certificate()
    assert rows[0].posterior_at * certificate.norm == pytest.approx(certificate.bound(radius=0.1), rel=1e-9)
    assert all(row.holds for row in rows)


# -- what is said in words ---------------------------------------------------------------------


def test_absent_bounds_are_said_in_words() -> None:
    bilinear = InvariantProjector(pixel_grid(3, SO2(), method="bilinear"), Hard(0.7), method="svd")
    row = row_of(bilinear, random_weight(1, 9, 0))
    assert row.verdict == "no bound"
    assert (row.prior, row.posterior, row.holds) == (None, None, None)
    assert "is not an orthogonal representation" in row.note
    skew = np.array([[0.0, -1.0], [1.0, 0.0]])
    given_ = EquivariantProjector.from_operators([skew], [skew], Hard(1.0))
    row = row_of(given_, random_weight(2, 2, 0))
    assert row.verdict == "not measured"
    assert "operators without a group: there are no elements to measure at" in row.note
    assert row.posterior is not None
    assert row.representation_in == "2 dimensions"
    boost = Lorentz().irrep(1)
    row = row_of(EquivariantProjector(boost, boost, Hard(0.1)), random_weight(4, 4, 0))
    assert row.verdict == "no bound"
    mixed = O2().irrep(1)
    row = row_of(EquivariantProjector(mixed, mixed, Softness(0.5)), random_weight(2, 2, 0))
    assert row.paper is None
    assert "no published eta: the published theorem is for Lie groups or finite groups" in row.note


@pytest.mark.filterwarnings("ignore:invalid value encountered in multiply:RuntimeWarning")
def test_infinite_bounds_are_said_in_words() -> None:
    rep = 2 * SO3().irrep(1)
    P = EquivariantProjector(rep, rep, Hard(math.inf), method="iterative")
    row = row_of(P, random_weight(6, 6, 0), 0.0)
    assert row.paper is None
    assert "no published eta: it is infinite, as the cut-off is" in row.note
    assert row.holds is True
    assert 0 < row.measured <= row.posterior
    for name, most in (("prior", 2), ("prior_at", 0)):
        value = getattr(row, name)
        assert value == pytest.approx(most, abs=1e-9) if value is not None else "infinite" in row.note


def test_what_is_projected_away_is_said() -> None:
    rep = SO2().irrep(1)
    row = row_of(InvariantProjector(rep, Softness(0)), random_weight(1, 2, 0))
    assert "zero to rounding" in row.note
    assert (row.posterior, row.holds) == (0.0, None)
    row = row_of(InvariantProjector(rep, Softness(0)), torch.zeros(0, 2))
    assert "empty" in row.note


def test_a_violated_bound_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers.Certificate, "error", lambda self, g, norm="frobenius": 3 * self.norm)
    table = layer_certificates(softened())
    assert [row.verdict for row in table.violated] == ["VIOLATED", "VIOLATED"]
    assert "VIOLATED" in str(table)


def softened() -> nn.Module:
    model = convolutional()
    soften(model, C4, softness=0.4)
    return model


def test_tables_show_every_number_and_note() -> None:
    table = layer_certificates(softened(), radius=1)
    text, markdown = str(table), table.to_markdown()
    lines = text.splitlines()
    assert lines[0].split()[:3] == ["layer", "type", "parameter"]
    assert "posterior <= 1" in lines[0]
    assert len(lines) == 4
    for row in table:
        for shown in (f"{row.posterior:.3g}", f"{row.measured:.3g}", row.representation_in, "holds"):
            assert shown in text
            assert shown in markdown
    assert markdown.splitlines()[1].count("---") == markdown.splitlines()[0].count(" | ") + 1
    assert repr(table) == "LayerTable(2 softened parameters, 0 violated)"
    assert "radius" not in str(layer_certificates(softened()))
    bilinear = InvariantProjector(pixel_grid(3, SO2(), method="bilinear"), Hard(0.7), method="svd")
    noted = certify_parameters([("l", "Linear", "weight", Whole(bilinear), torch.ones(1, 9))], None, 4, 0)
    assert "l.weight: no bound holds" in str(noted)
    assert "- l.weight: no bound holds" in noted.to_markdown()
    assert text_table(("x",), []) == "x\n-"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"radius": "1"}, TypeError, "radius must be a number"),
        ({"radius": -1.0}, ValueError, "radius must be finite"),
        ({"radius": math.inf}, ValueError, "radius must be finite"),
        ({"samples": 0}, ValueError, "samples must be an integer >= 1"),
        ({"samples": 2.0}, TypeError, "samples must be an integer"),
        ({"seed": -1}, ValueError, "seed must be an integer >= 0"),
        ({"seed": None}, TypeError, "seed must be an integer"),
    ],
)
def test_bad_arguments(arguments, error, message: str) -> None:
    with pytest.raises(error, match=message):
        layer_certificates(softened(), **arguments)


def test_models_and_parts_of_your_own() -> None:
    with pytest.raises(TypeError, match="model must be"):
        layer_certificates("model")

    class Part:
        projector = InvariantProjector(SO2().irrep(1), Hard(1.0))

    row = certify_parameters([("l", "Linear", "weight", Part(), torch.ones(1, 2))], None, 4, 0)[0]
    assert row.verdict == "no bound"
    assert row.note == "projected by a part of your own, Part: its matrix is not known"


def test_seeds_decide_the_elements() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 5))
    soften(model, SO2(), softness=0.4)
    one, two, other = (layer_certificates(model, seed=seed)[0] for seed in (1, 1, 2))
    assert one == two
    assert one.worst != other.worst


# -- folders -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [softened, lambda: double_net()])
def test_a_folder_has_the_certificates_of_its_model(make, tmp_path: Path) -> None:
    model = make()
    save_softened(model, tmp_path)
    table = certify_directory(tmp_path, radius=1.0, samples=5, seed=3)
    assert table == layer_certificates(model, radius=1.0, samples=5, seed=3)
    assert json.loads(json.dumps(table.to_dict(), allow_nan=False))["layers"][0]["holds"] is True


def double_net() -> nn.Module:
    model = Net().double()
    rules = (Rule("head", nn.Linear, linear(3 * SO2().irrep(1), 3 * SO2().trivial())),)
    soften(model, SO2(), softness=0.4, rules=rules)
    return model


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"soften\.json"):
        certify_directory(tmp_path)
    save_softened(softened(), tmp_path)
    (tmp_path / "soften.json").write_text("{}")
    with pytest.raises(SavedFileError, match=r"soften\.json: no record"):
        certify_directory(tmp_path)


def test_layouts_are_imported_for_what_they_are() -> None:
    """Kernels and Tokens take the rows that their projector takes: as many numbers as the parameter has."""
    P = InvariantProjector(voxel_grid(2, CubeGroup()), Softness(0.5))
    raw = random_weight(6, 8, 0).reshape(3, 2, 2, 2, 2)
    row = certify_parameters([("l", "Conv3d", "weight", Kernels(P, 3), raw)], None, 4, 0)[0]
    assert row.posterior == pytest.approx(P.certificate(raw.reshape(6, 8)).relative)
    grid = InvariantProjector(pixel_grid(2, DihedralGroup(4)), Softness(0.5))
    table = random_weight(5, 3, 0)
    row = certify_parameters([("l", "Embedding", "weight", Tokens(grid, 1), table)], None, 4, 0)[0]
    assert row.posterior == pytest.approx(grid.certificate(table[1:].T).relative)
