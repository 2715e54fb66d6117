"""initial="norm": a projected weight begins as large as a plain one, and only its strict part has grown."""

from __future__ import annotations

import math

import pytest
import torch

from equikernels.group import SO2, CyclicGroup, Orthogonal
from equikernels.nn import SoftConv2d, SoftLinear
from equikernels.project import (
    Cutoff,
    EquivariantProjector,
    Hard,
    LearnableSmooth,
    Smooth,
    Softness,
    strict_gain,
)

CIRCLE = SO2()
PAIR = 2 * CIRCLE.irrep(1) + CIRCLE.trivial()
VECTOR = Orthogonal(3).defining()
SPATIAL = Orthogonal(3).trivial() + VECTOR + VECTOR @ VECTOR
CUTOFFS = {
    "strict": Softness(0),
    "soft": Softness(0.13),
    "softer": Softness(0.6),
    "hard": Hard(1.5),
    "smooth": Smooth(0.0, 0.7),
}


def expected_energy(rep_in, rep_out, cutoff: Cutoff, gain: float) -> float:  # type: ignore[no-untyped-def]
    """E |P(W + (c - 1) P_0 W)|^2 for entries of variance 1, from every basis weight: exactly."""
    count = rep_out.dim * rep_in.dim
    basis = torch.eye(count, dtype=torch.float64).view(count, rep_out.dim, rep_in.dim)
    projector = EquivariantProjector(rep_in, rep_out, cutoff)
    strict = EquivariantProjector(rep_in, rep_out, Softness(0))
    return float(projector(basis + (gain - 1) * strict(basis)).square().sum())


@pytest.mark.parametrize("cutoff", CUTOFFS.values(), ids=CUTOFFS)
@pytest.mark.parametrize("rep", [PAIR, SPATIAL], ids=["SO(2)", "O(3)"])
def test_the_gain_makes_up_for_what_is_removed(rep, cutoff: Cutoff) -> None:  # type: ignore[no-untyped-def]
    gain = strict_gain(EquivariantProjector(rep, rep, cutoff))
    assert gain > 1.01
    assert expected_energy(rep, rep, cutoff, 1.0) < 0.95 * rep.dim**2
    assert expected_energy(rep, rep, cutoff, gain) == pytest.approx(rep.dim**2, rel=1e-9)


def test_gains_of_counted_directions() -> None:
    """From 2 x 1 + 0 to itself: 9 of 25 directions are strict, so 25 / 9; halfway 8 more, so (25 - 8) / 9."""
    of = [strict_gain(EquivariantProjector(PAIR, PAIR, Softness(s))) ** 2 for s in (0, 0.5, 1)]
    assert of == pytest.approx([25 / 9, (25 - 8) / 9, 1])
    assert strict_gain(EquivariantProjector(PAIR, PAIR, Hard(math.inf))) == 1


@pytest.mark.parametrize("parameter", ["raw", "schur"])
def test_only_the_strict_part_of_the_drawn_weight_grows(parameter: str) -> None:
    drawn = []
    for initial in ("raw", "norm"):
        torch.manual_seed(3)
        drawn.append(
            SoftLinear(SPATIAL, VECTOR, Softness(0.1), 3, 2, parameter=parameter, initial=initial).double()
        )
    plain, grown = (layer.weight.detach() for layer in drawn)
    strict = EquivariantProjector(SPATIAL, VECTOR, Softness(0))
    gain = strict_gain(drawn[0].projector)
    torch.testing.assert_close(strict(grown), gain * strict(plain), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grown - strict(grown), plain - strict(plain), rtol=1e-5, atol=1e-6)
    assert torch.equal(drawn[0].bias, drawn[1].bias)
    drawn[1].reset_parameters()
    redrawn = drawn[1].weight.detach()
    # Drawn anew as large as before: the gain is no part of the first drawing alone.
    assert float(strict(redrawn).norm()) > 3 * float(strict(plain).norm())


def test_convolutions_and_trained_cutoffs_begin_so_too() -> None:
    torch.manual_seed(0)
    regular = CyclicGroup(4).regular()
    for cutoff in (Softness(0.0), Softness(0.2), LearnableSmooth(0.1, 0.5)):
        layer = SoftConv2d(regular, regular, 5, cutoff, 16, 16, initial="norm")
        plain = torch.nn.Conv2d(64, 64, 5)
        ratio = float(layer.projected_weight.detach().norm() / plain.weight.detach().norm())
        assert ratio == pytest.approx(1, abs=0.02), cutoff


def test_what_cannot_be_made_up_for_is_said() -> None:
    vector, scalar = Orthogonal(3).defining(), Orthogonal(3).trivial()
    with pytest.raises(ValueError, match="projector must keep equivariant maps"):
        SoftLinear(vector, scalar, Softness(0.5), initial="norm")
    assert SoftLinear(vector, scalar, Softness(1), initial="norm").initial == "norm"
    with pytest.raises(ValueError, match="""initial must be "raw" or "norm", got 'large'"""):
        SoftLinear(PAIR, PAIR, Softness(0), initial="large")
