"""What the coordinate MLP refuses, and how it says so."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from equikernels.ops import coordinate_mlp, coordinate_mlp_log_likelihood, image_grid
from tests.ops.coordinate_decoder.samples import make_case

CASE = make_case(2, (3, 4), latents=2, units=5, layers=1)
W = CASE.weights
F32 = torch.zeros(2)


def arguments(**changes: Any) -> tuple[list[Any], dict[str, Any]]:
    given = {
        "coordinates": CASE.coordinates,
        "theta": CASE.theta,
        "shift": CASE.shift,
        "z": CASE.z,
        "weights": W,
        **changes,
    }
    positional = [given.pop(name) for name in ("coordinates", "theta", "shift", "z", "weights")]
    return positional, given


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"theta": torch.zeros(3).double()}, ValueError, r"^theta: expected shape \(2,\), got \(3,\)"),
        (
            {"theta": F32},
            TypeError,
            "^theta: expected the dtype of the weights, torch.float64, got torch.float32",
        ),
        ({"theta": 0.5}, TypeError, "^theta: expected a tensor, got float"),
        ({"shift": CASE.theta}, ValueError, r"^shift: expected shape \(2, 2\), got \(2,\)"),
        ({"z": torch.zeros(2, 3).double()}, ValueError, r"^z: expected shape \(N, 2\), got \(2, 3\)"),
        ({"z": torch.zeros(2).double()}, ValueError, r"^z: expected shape \(N, 2\), got \(2,\)"),
        ({"z": None}, TypeError, "^z: expected a tensor, got NoneType"),
        ({"z": CASE.z.detach().to_sparse()}, TypeError, "^z: expected a dense tensor"),
        (
            {"z": CASE.z.detach().to("meta")},
            ValueError,
            "^z: expected on the device of the weights, cpu, got meta",
        ),
        ({"weights": [W]}, TypeError, "^weights: expected CoordinateMLPWeights, got list"),
        (
            {"weights": W._replace(hidden=torch.zeros(1, 5, 5))},
            TypeError,
            "^weights.hidden: expected a tuple of tensors, got Tensor",
        ),
        (
            {"weights": W._replace(hidden=())},
            ValueError,
            "^weights.hidden_bias: expected one for each of the 0 hidden layers, got 1",
        ),
        (
            {"weights": W._replace(hidden=(torch.zeros(5, 4).double(),))},
            ValueError,
            r"^weights.hidden\[0\]: expected shape \(5, 5\), got \(5, 4\)",
        ),
        (
            {"weights": W._replace(coordinate=torch.zeros(5, 3).double())},
            ValueError,
            r"^weights.coordinate: expected \(H, 2\) or \(H, 5\), got \(5, 3\)",
        ),
        (
            {"weights": W._replace(bias=torch.zeros(5))},
            TypeError,
            "^weights.bias: expected the dtype of the weights, torch.float64, got torch.float32",
        ),
        (
            {"weights": W._replace(output=W.output.half())},
            TypeError,
            "^weights.output: expected float32 or float64, got torch.float16",
        ),
        (
            {"weights": W._replace(output_bias=None)},
            TypeError,
            "^weights.output_bias: expected a tensor, got NoneType",
        ),
        (
            {"weights": W._replace(bilinear=torch.zeros(5, 2, 3).double())},
            ValueError,
            r"^weights.bilinear: expected shape \(5, 2, 2\), got \(5, 2, 3\)",
        ),
        ({"coordinates": (F32.double(),)}, ValueError, r"^coordinates: expected the pair \(x, y\), got 1"),
        (
            {"coordinates": (F32.double(), torch.zeros(2, 1).double())},
            ValueError,
            r"^coordinates\[1\]: expected 1 dimension, got \(2, 1\)",
        ),
        ({"coordinates": torch.zeros(4, 3).double()}, ValueError, r"^coordinates: expected shape \(P, 2\)"),
        (
            {"coordinates": image_grid(3, 4)},
            TypeError,
            r"^coordinates\[0\]: expected the dtype of the weights",
        ),
        ({"coordinates": 5}, TypeError, "^coordinates: expected a tensor, got int"),
        (
            {"coordinates": torch.zeros(4, 2).double().requires_grad_()},
            ValueError,
            "^coordinates: gradients of the coordinates are not available",
        ),
        ({"activation": "gelu"}, ValueError, "^activation: expected one of tanh, leaky_relu, got 'gelu'"),
        ({"negative_slope": -0.1}, ValueError, "^negative_slope: expected a finite number .* got -0.1"),
        ({"negative_slope": float("nan")}, ValueError, "^negative_slope: expected a finite number"),
        ({"negative_slope": "small"}, TypeError, "^negative_slope: expected a number, got str"),
        ({"precision": "fp16"}, ValueError, "^precision: expected one of float32, tf32, bf16, got 'fp16'"),
        ({"precision": "tf32"}, ValueError, "^precision: expected \"float32\" for float64 data, got 'tf32'"),
        ({"mask": "square"}, ValueError, "^mask: expected None, \"disc\" or a boolean tensor, got 'square'"),
        ({"mask": torch.ones(3, 4)}, TypeError, "^mask: expected .* boolean tensor, got torch.float32"),
        ({"mask": 3}, TypeError, "^mask: expected .* boolean tensor, got int"),
        ({"mask": torch.ones(4, 3).bool()}, ValueError, r"^mask: expected shape \(3, 4\), got \(4, 3\)"),
        (
            {"mask": torch.ones(3, 4, device="meta").bool()},
            ValueError,
            "^mask: expected on the device of the weights, cpu, got meta",
        ),
        (
            {"mask": "disc", "coordinates": torch.zeros(12, 2).double()},
            ValueError,
            '^mask: "disc" needs coordinates on a grid',
        ),
        (
            {"learned_variance": True},
            ValueError,
            "^weights.output: expected an even number of outputs .* got 1",
        ),
    ],
)
def test_errors(changes: dict[str, Any], error: type[Exception], message: str, backend: str) -> None:
    positional, options = arguments(**changes)
    with pytest.raises(error, match=message):
        coordinate_mlp(*positional, backend=backend, **options)
    if "learned_variance" not in changes:
        with pytest.raises(error, match=message):
            coordinate_mlp_log_likelihood(*positional, CASE.x, backend=backend, **options)


@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        (
            CASE.x,
            {"likelihood": "poisson"},
            ValueError,
            "^likelihood: expected one of bernoulli, .*'poisson'",
        ),
        (CASE.x, {"softplus": True}, ValueError, '^softplus: expected False for "bernoulli"'),
        (CASE.x[:, :5], {}, ValueError, r"^x: expected shape \(2, 12, channels\), got \(2, 5, 1\)"),
        (CASE.x[:1], {}, ValueError, r"^x: expected shape \(2, 12, channels\), got \(1, 12, 1\)"),
        (CASE.x[..., 0], {}, ValueError, r"^x: expected shape \(2, 12, channels\), got \(2, 12\)"),
        (CASE.x[:, :9], {"mask": "disc"}, ValueError, r"^x: expected shape \(2, 12, channels\)"),
        (CASE.x.float(), {}, TypeError, "^x: expected the dtype of the weights"),
        (
            CASE.x.expand(2, 12, 3),
            {},
            ValueError,
            "^weights.output: expected 3 outputs for 3 channels and 'bern",
        ),
        (
            CASE.x,
            {"likelihood": "gaussian_learned_variance"},
            ValueError,
            "^weights.output: expected 2 outputs for 1 channels and 'gaussian_learned_variance', got 1",
        ),
        (CASE.x, {"backend": "cpp"}, ValueError, "^backend: 'cpp' cannot run coordinate_mlp on cpu"),
    ],
)
def test_likelihood_errors(
    x: torch.Tensor, options: dict[str, Any], error: type[Exception], message: str, backend: str
) -> None:
    positional, _ = arguments()
    with pytest.raises(error, match=message):
        coordinate_mlp_log_likelihood(*positional, x, **{"backend": backend, **options})
