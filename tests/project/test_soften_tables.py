"""Position tables: smoothed along their tokens, with the class and register tokens left out."""

import pytest
import torch
from torch import nn

from equikernels.group import DihedralGroup, pixel_grid
from equikernels.project import (
    InvariantProjector,
    Softness,
    soften,
)
from equikernels.project.adapting import (
    Rule,
    is_softened,
    tokens,
)
from tests.project.softening_samples import C4, Embedded


@pytest.mark.parametrize("extra", [0, 1, 2, 5])
def test_position_tables_are_smoothed_along_their_tokens(extra: int) -> None:
    model = Embedded(16, extra).double()
    raw = model.pos_embed.detach().clone()
    report = soften(model, C4, softness=0.4)
    P = InvariantProjector(pixel_grid(4, C4), Softness(0.4))
    table = model.pos_embed
    assert torch.equal(table[:, :extra], raw[:, :extra])
    torch.testing.assert_close(table[:, extra:], P(raw[:, extra:].mT).mT)
    (row,) = [row for row in report.layers if row.softened]
    assert row.name == "pos_embed"
    assert row.dimension == pytest.approx(3 * (extra + P.dimension))
    assert report.limiting == ()


def test_embedding_tables_and_given_grids() -> None:
    model = nn.ModuleDict({"position_embedding": nn.Embedding(13, 4), "tokens": nn.Embedding(9, 4)})
    raw = model["position_embedding"].weight.detach().clone()
    with pytest.raises(
        ValueError, match=r"position_embedding holds 13 tokens: no square.*nn.Embedding, tokens"
    ):
        soften(model, DihedralGroup(2), softness=0)
    soften(model, DihedralGroup(2), softness=0, grid={"position_*": (3, 4)})
    out = model["position_embedding"](torch.arange(13))
    torch.testing.assert_close(out[0], raw[0])
    grid = out[1:].reshape(3, 4, 4)
    torch.testing.assert_close(grid, grid.flip(0))
    torch.testing.assert_close(grid, grid.flip(1))
    assert not is_softened(model["tokens"])


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (9, "3 x 3 after 0 or 2 x 2 after 5"),
        (12, "no square"),
    ],
)
def test_unclear_token_grids_are_not_guessed(count: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"pos_embed holds {count} tokens: {message}"):
        soften(Embedded(count, 0), C4, softness=0)


def test_one_token_is_no_grid() -> None:
    report = soften(Embedded(4, 2), C4, softness=0)  # not 1 x 1 after 5
    assert [row.note for row in report.layers if row.softened] == ["2 leading tokens kept"]


def test_leading_tokens_can_be_told() -> None:
    model = Embedded(4, 5)
    raw = model.pos_embed.detach().clone()
    soften(model, C4, softness=0, rules=(Rule("pos_embed", nn.Parameter, tokens(leading=5)),))
    assert torch.equal(model.pos_embed[:, :5], raw[:, :5])
    torch.testing.assert_close(model.pos_embed[0, 5:], raw[0, 5:].mean(0).expand(4, 3))


def test_token_grids_must_turn_into_themselves() -> None:
    with pytest.raises(ValueError, match=r"pos_embed: C_4 does not carry a 2 x 8 grid to itself"):
        soften(Embedded(16, 0), C4, softness=0, grid={"pos_embed": (2, 8)})
    with pytest.raises(ValueError, match="pos_embed holds 16 tokens, which is not at least 5 x 5"):
        soften(Embedded(16, 0), C4, softness=0, grid={"pos_embed": (5, 5)})


def test_tables_that_no_rule_knows_are_reported() -> None:
    model = Embedded(16, 0)
    model.bias_table = nn.Parameter(torch.zeros(7, 2))
    report = soften(model, C4, softness=0)
    (limit,) = report.limiting
    assert limit.reason == "no rule says how the group acts on shape (7, 2)"
