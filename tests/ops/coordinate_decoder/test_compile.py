"""torch.compile, torch.export and opcheck, with the plain tracing compiler: inductor takes half a minute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from equikernels.ops import coordinate_mlp, coordinate_mlp_log_likelihood
from equikernels.ops.coordinate_decoder import _checked, _network, autograd
from tests.ops.coordinate_decoder.samples import Case, assert_same, make_case, spread

OPTIONS: dict[str, dict[str, Any]] = {
    "tanh": {},
    "mask": {"mask": "disc"},
    "leaky_relu residual": {"activation": "leaky_relu", "residual": True},
}


def call(case: Case, form: str, **options: Any) -> Tensor:
    common = (case.coordinates, case.theta, case.shift, case.z, case.weights)
    if form == "values":
        return coordinate_mlp(*common, **options) * 2
    return coordinate_mlp_log_likelihood(*common, case.x, **options) * 2


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("form", ["values", "log_likelihood"])
def test_compile(form: str, options: str) -> None:
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for batch in (3, 5):  # the second one makes the batch size dynamic
        case = make_case(batch, (4, 5), layers=2, bilinear=True)
        results = []
        for function in (compiled, call):
            out = function(case, form, **OPTIONS[options])
            results.append({"out": out.detach(), **case.gradients(out, spread(out))})
        assert_same(*results, rtol=1e-12)


@pytest.mark.parametrize("form", ["values", "log_likelihood"])
def test_export(form: str) -> None:
    case = make_case()
    for leaf in case.leaves.values():
        leaf.requires_grad_(False)

    class Decoder(torch.nn.Module):
        def forward(self, theta: Tensor, z: Tensor) -> Tensor:
            with torch.no_grad():
                return call(Case(case.coordinates, theta, case.shift, z, case.weights, case.x), form)

    theta, z = case.theta.detach(), case.z.detach()
    exported = torch.export.export(Decoder(), (theta, z)).module()
    torch.testing.assert_close(exported(2 * theta, z), Decoder()(2 * theta, z))


def network(case: Case) -> tuple[Any, ...]:
    pixels, theta, shift, form = _checked(
        case.coordinates, case.theta, case.shift, case.z, case.weights, "tanh", 0.01, None, "float32", False
    )
    net, _ = _network(pixels, theta, shift, case.z, case.weights, form)
    return tuple(x.detach().requires_grad_(x.requires_grad) for x in net)


def test_opcheck() -> None:
    case = make_case(2, (3, 2), units=4)
    net = network(case)
    plain = tuple(x.detach() for x in net)
    x = case.x.detach().requires_grad_()
    form = (None, "float32", False)
    options = (*form, "bernoulli", False)
    ops = torch.ops.equikernels
    torch.library.opcheck(ops.coordinate_mlp_values.default, (*net, *form))
    torch.library.opcheck(ops.coordinate_mlp_likelihoods.default, (*net, x, *options))
    grad = torch.ones(2, 6, 1, dtype=torch.float64)
    torch.library.opcheck(ops.coordinate_mlp_values_gradients.default, (grad, *plain, *form, True, True))
    torch.library.opcheck(
        ops.coordinate_mlp_likelihoods_gradients.default,
        (grad[:, 0, 0], *plain, x.detach(), *options, True, False),
    )


def test_meta_tensors_have_the_right_shapes() -> None:
    case = make_case(2, (3, 4))
    on_meta = tuple(x.detach().to("meta") for x in network(case))
    assert torch.ops.equikernels.coordinate_mlp_values(*on_meta, None, "float32", False).shape == (2, 12, 1)
    assert autograd._likelihoods_fake(*on_meta).shape == (2,)
