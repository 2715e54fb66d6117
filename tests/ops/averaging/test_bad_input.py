"""What is refused, with messages that name the argument; and what index maps must be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from equikernels.ops import group_average
from equikernels.ops.averaging import IndexMaps, group_correlate
from tests.ops.averaging.samples import BACKENDS, MAPS, case

SWAP = torch.tensor([[0, 1], [1, 0]])


@pytest.mark.parametrize(
    ("sources", "error", "message"),
    [
        ([[0, 1]], TypeError, "expected a tensor, got list"),
        (SWAP.int(), TypeError, "expected int64, got torch.int32"),
        (SWAP[0], ValueError, r"expected shape \(order, places\), got \(2,\)"),
        (SWAP[:0], ValueError, r"expected shape \(order, places\), got \(0, 2\)"),
        (torch.tensor([[0, 1], [1, 1]]), ValueError, r"permutations of 0 .. 1, got another map at 1"),
        (torch.tensor([[0, 1], [1, 2]]), ValueError, r"permutations of 0 .. 1, got another map at 1"),
        (torch.tensor([[0, 1], [-1, 0]]), ValueError, r"permutations of 0 .. 1, got another map at 1"),
        (SWAP.flip(0), ValueError, "expected the identity at element 0"),
    ],
    ids=str,
)
def test_maps(sources: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^sources_out: .*{message}"):
        IndexMaps(sources, SWAP)
    with pytest.raises(error, match=f"^sources_in: .*{message}"):
        IndexMaps(SWAP, sources)


def test_as_many_maps_on_both_sides() -> None:
    with pytest.raises(ValueError, match=r"^sources_in: expected 2 maps, as many as sources_out, got 3"):
        IndexMaps(SWAP, torch.arange(3).expand(3, 3))


def test_maps_that_are_no_group() -> None:
    turns = torch.stack([torch.arange(4).roll(k) for k in range(4)])
    with pytest.raises(
        ValueError, match=r"^maps: expected a group.* element \d after the inverse of element \d"
    ):
        IndexMaps(turns[:2], turns[:2])
    # Each side is a group, both together are none: they would have to turn the same way.
    IndexMaps(turns, turns[[0, 3, 2, 1]])
    with pytest.raises(ValueError, match=r"^maps: expected a group"):
        IndexMaps(turns, turns[[0, 2, 1, 3]])
    with pytest.raises(ValueError, match=r"^maps: expected every action equally often"):
        IndexMaps(turns[[0, 2, 0]], turns[[0, 2, 0]])


@pytest.mark.parametrize("name", MAPS)
def test_what_maps_know(name: str) -> None:
    out, inn = MAPS[name]
    maps = IndexMaps(out, inn)
    assert maps.order == len(out)
    assert maps.shape == (out.shape[1], inn.shape[1])
    assert torch.equal(maps.sources_out, out)
    assert torch.equal(maps.sources_in, inn)
    quotients = maps.on(torch.device("cpu"))[2][0]
    for sources in (out, inn):
        for a in range(maps.order):
            for b in range(maps.order):
                # a = (a b^-1) b, and s_(g h) = s_h s_g.
                assert torch.equal(sources[b][sources[quotients[a, b]]], sources[a])
    every = torch.arange(maps.order)
    assert (quotients.sort(dim=1).values == every).all()
    assert torch.equal(maps.inverse[maps.inverse], every)


def test_maps_do_not_change_with_what_they_were_made_of() -> None:
    mine = SWAP.clone()
    maps = IndexMaps(mine, mine)
    mine[1] = torch.tensor([0, 1])
    maps.sources_out[1] = 7
    maps.inverse[:] = 7
    w = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert group_average(w, maps, torch.tensor([0.0, 1.0])).tolist() == [[4, 3], [2, 1]]


def with_pairs() -> tuple[Tensor, Tensor]:
    return SWAP, SWAP


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"w": [[1.0]]}, TypeError, "^w: expected a tensor, got list"),
        ({"w": torch.ones(2, 2, dtype=torch.int64)}, TypeError, "^w: expected float32.*got torch.int64"),
        ({"w": torch.ones(2, 2).to_sparse()}, TypeError, "^w: expected a dense tensor, got torch.sparse_coo"),
        ({"w": torch.ones(2)}, ValueError, r"^w: expected blocks \(..., 2, 2\), got \(2,\)"),
        ({"w": torch.ones(5, 2, 3)}, ValueError, r"^w: expected blocks \(..., 2, 2\), got \(5, 2, 3\)"),
        ({"w": torch.ones(5, 3, 2)}, ValueError, r"^w: expected blocks \(..., 2, 2\), got \(5, 3, 2\)"),
        ({"maps": SWAP}, TypeError, "^maps: expected IndexMaps or a pair of tensors, got Tensor"),
        ({"maps": (SWAP,)}, TypeError, "^maps: expected IndexMaps or a pair of tensors, got tuple"),
        ({"weights": [1.0, 1.0]}, TypeError, "^weights: expected a tensor, got list"),
        ({"weights": torch.ones(2, dtype=torch.int64)}, TypeError, "^weights: expected a floating dtype"),
        ({"weights": torch.ones(3)}, ValueError, r"^weights: expected shape \(2,\), got \(3,\)"),
        ({"weights": torch.ones(2, 1)}, ValueError, r"^weights: expected shape \(2,\), got \(2, 1\)"),
        (
            {"weights": torch.ones(2, device="meta")},
            ValueError,
            "^weights: expected on cpu, where w is, got meta",
        ),
    ],
    ids=str,
)
def test_arguments(change: dict[str, object], error: type[Exception], message: str, backend: str) -> None:
    arguments: dict[str, object] = {"w": torch.ones(2, 2), "maps": with_pairs(), "weights": torch.ones(2)}
    with pytest.raises(error, match=message):
        group_average(**(arguments | change), backend=backend)


@pytest.mark.parametrize(
    "g",
    [torch.ones(3, 2, 2), torch.ones(2, 2, dtype=torch.float64), torch.ones(2, 2, device="meta")],
    ids=str,
)
def test_factors_of_the_correlation_are_alike(g: Tensor) -> None:
    with pytest.raises(ValueError, match=r"^g: expected shape \(2, 2\), torch.float32 and cpu, as w, got"):
        group_correlate(g, torch.ones(2, 2), with_pairs())


def test_pairs_in_transforms_and_compiled_functions() -> None:
    weights = torch.ones(2)
    with pytest.raises(ValueError, match=r"^maps: expected IndexMaps, prepared before"):
        torch.vmap(lambda w: group_average(w, with_pairs(), weights))(torch.ones(3, 2, 2))
    torch._dynamo.reset()
    with pytest.raises(Exception, match="maps: expected IndexMaps, prepared before"):
        torch.compile(group_average, fullgraph=True, backend="aot_eager")(
            torch.ones(2, 2), with_pairs(), weights
        )
    torch._dynamo.reset()


def test_entries_that_are_not_finite_stay_where_the_elements_carry_them() -> None:
    name = "C_4 3x3"
    w, weights, maps = case(name, (2,), torch.float32)
    w[1, 2, 3] = torch.nan
    out, inn = MAPS[name]
    reached = torch.stack([w.isnan()[..., a[:, None], b] for a, b in zip(out, inn, strict=True)]).any(0)
    for backend in BACKENDS:
        assert torch.equal(group_average(w, maps, weights, backend=backend).isnan(), reached)
