"""soften: all or nothing, bad arguments named, a report that reads well."""

import copy
import math
import sys

import pytest
import torch
from torch import nn

from equikernels.group import SO2, pixel_grid
from equikernels.project import (
    AlreadySoftened,
    Hard,
    InvariantProjector,
    Softness,
    bake,
    default_rules,
    soften,
)
from equikernels.project.adapting import (
    Plan,
    Rule,
    is_softened,
    leave,
    linear,
)
from equikernels.project.adapting.parts import Kernels
from tests.project.softening_samples import C4, D4, convolutional


def test_a_dry_run_changes_nothing_and_reports_the_same() -> None:
    model = convolutional().train()
    x = torch.randn(1, 1, 16, 16)
    before = model(x)
    dry = soften(model, C4, softness=0, example_input=x, dry_run=True)
    assert not any(map(is_softened, model.modules()))
    assert torch.equal(model(x), before)
    assert model.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert soften(model, C4, softness=0, example_input=x) == dry


def test_the_example_runs_in_evaluation_mode_and_moves_no_statistics() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5)).train()
    model[2].eval()
    before = copy.deepcopy(model[1].state_dict())
    state = torch.get_rng_state()
    soften(model, C4, softness=0, example_input=torch.randn(1, 1, 3, 3, generator=torch.Generator()))
    assert all(torch.equal(value, before[name]) for name, value in model[1].state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in model.modules()] == [True, True, True, False]


def test_a_second_call_is_refused() -> None:
    model = convolutional()
    soften(model, C4, softness=0)
    with pytest.raises(AlreadySoftened, match=r"^0 \(Conv2d\) is softened already"):
        soften(model, C4, softness=0.5)
    bake(model)
    soften(model, C4, softness=0.5)


def test_nothing_changes_when_something_fails() -> None:
    model = convolutional()
    classes = [type(module) for module in model.modules()]
    with pytest.raises(ZeroDivisionError):
        soften(model, C4, softness=0, example_input=torch.zeros(1, 1, 8, 8), rules=(
            Rule("6", nn.Linear, lambda site: Plan(str(1 // 0))), *default_rules,
        ))  # fmt: skip
    with pytest.raises(RuntimeError):
        soften(model, C4, softness=0, example_input=torch.zeros(1, 2, 8, 8))
    assert [type(module) for module in model.modules()] == classes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_failure_half_way_undoes_the_first_half(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["equikernels.project.adapting.soften"]

    model = convolutional()
    original, calls = module.soften_module, []

    def failing(layer, parts):
        calls.append(layer)
        if len(calls) == 2:
            raise MemoryError
        original(layer, parts)

    monkeypatch.setattr(module, "soften_module", failing)
    with pytest.raises(MemoryError):
        soften(model, C4, softness=0)
    assert len(calls) == 2
    assert not any(map(is_softened, model.modules()))


MISFIT = Rule("6", nn.Linear, linear(SO2().irrep(1), SO2().irrep(1)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "exactly one of softness and cutoff must be given, got neither"),
        ({"softness": 0, "cutoff": Hard(1)}, ValueError, "got both"),
        ({"softness": 2}, ValueError, r"s must be a softness in \[0, 1\]"),
        ({"cutoff": 0.5}, TypeError, "cutoff must be Hard, Smooth or Softness"),
        ({"cutoff": nn.Identity()}, TypeError, "cutoff must be fixed"),
        ({"softness": 0, "group": "C_4"}, TypeError, "group must be a Group, got str"),
        ({"softness": 0, "model": "m"}, TypeError, "model must be a torch.nn.Module"),
        (
            {"softness": 0, "grid": {"haed": (4, 4)}},
            ValueError,
            r"grid\['haed'\] names nothing.*there are: 6$",
        ),
        ({"softness": 0, "grid": {"6": 4}}, ValueError, r"grid\['6'\] must be a pair"),
        ({"softness": 0, "grid": [(4, 4)]}, TypeError, "grid must be a mapping"),
        ({"softness": 0, "grid": {"6": (3, 3)}}, ValueError, "8 to 10 features, neither a multiple of 3 x 3"),
        ({"softness": 0, "rules": "all"}, TypeError, "rules must be a sequence of Rule"),
        (
            {"softness": 0, "rules": (Rule("conv*", nn.Conv2d, leave("")),)},
            ValueError,
            r"the pattern 'conv\*' of a rule names nothing in the model; there are: 0, 3$",
        ),
        ({"softness": 0, "rules": (MISFIT,)}, ValueError, r"6: rep_in belongs to SO\(2\), .*softened to C_4"),
        ({"softness": 0, "example_input": 3}, TypeError, "example_input must be a tensor"),
    ],
)
def test_bad_arguments_are_named(arguments, error: type[Exception], message: str) -> None:
    arguments = {"model": convolutional(), "group": C4, **arguments}
    model, group = arguments.pop("model"), arguments.pop("group")
    with pytest.raises(error, match=message):
        soften(model, group, **arguments)


def test_plans_of_one_s_own_are_checked() -> None:
    grid = InvariantProjector(pixel_grid(2, C4), Softness(0))
    wrong = Rule("6", nn.Linear, lambda site: Plan("mine", {"weight": Kernels(grid, 1)}))
    model = nn.Sequential(*convolutional()[:6], nn.Linear(3, 10))
    with pytest.raises(ValueError, match=r"^6: weight cannot be projected: .*\(10, 3\)"):
        soften(model, C4, softness=0, rules=(wrong,))
    right = convolutional()
    report = soften(right, C4, softness=0, rules=(wrong,))
    assert [row.action for row in report.softened] == ["mine"]
    rows = right[6].weight.reshape(10, 2, 4)
    torch.testing.assert_close(rows, rows[..., :1].expand(10, 2, 4))
    with pytest.raises(TypeError, match="6: a rule must plan a Plan, got str"):
        soften(convolutional(), C4, softness=0, rules=(Rule("6", nn.Linear, lambda site: "mine"),))
    for arguments, message in (
        ((3, nn.Linear, leave("")), "pattern must be a string"),
        (("*", int, leave("")), "kind must be module types or"),
        (("*", nn.Linear, "leave"), "plan must be a function"),
    ):
        with pytest.raises(TypeError, match=message):
            Rule(*arguments)


def test_parameters_that_are_not_plain_are_refused() -> None:
    normed = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 1, 3)))
    with pytest.raises(ValueError, match="0: weight is no parameter of its own"):
        soften(normed, C4, softness=0)
    lazy = nn.Sequential(nn.LazyConv2d(1, 3))
    with pytest.raises(ValueError, match="0: weight is not initialized yet"):
        soften(lazy, C4, softness=0)
    with pytest.raises(ValueError, match="6: output features must be a multiple of 4"):
        soften(
            convolutional(),
            C4,
            softness=0,
            rules=(Rule("6", nn.Linear, linear(pixel_grid(2, C4), pixel_grid(2, C4))),),
        )


def test_the_report_prints_as_a_table_and_as_markdown() -> None:
    report = soften(convolutional(), C4, softness=0)
    lines = str(report).splitlines()
    assert lines[0].startswith(
        "C_4, Softness(s=0, clusters='fraction'): 2 of 3 layers softened, 248 of their 776"
    )
    head = next(line for line in lines if line.startswith("layer"))
    start = head.index("parameters")
    assert [line[start:].split("  ")[0] for line in lines[4:6]] == ["200 -> 56", "576 -> 192"]
    table = report.to_markdown()
    assert "| 0 | Conv2d | isotropic kernels | permutation grid 5x5 of C_4 | 200 -> 56 |  |" in table
    widths = {line.count("|") for line in table.split("Limits")[0].splitlines() if line.startswith("|")}
    assert widths == {7}
    assert repr(report) == "SoftenReport(C_4, Softness(s=0, clusters='fraction'): 2 of 3 layers, 2 limiting)"


def test_the_dimension_counted_is_the_rank() -> None:
    report = soften(nn.Conv2d(3, 4, 5), D4, softness=0)
    assert report.layers[0].dimension == 12 * 6  # 25 pixels in 6 orbits of the square's symmetries
    assert math.isclose(report.layers[0].parameters, 300)
