"""What a GPU would run, without one: its schedule on CPU tensors, and all of it on tensors without values."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.devices import peak_mb
from equikernels.ops.coordinate_decoder import _checked, _network, schedule, tiled
from equikernels.ops.coordinate_decoder.network import Form, Network
from equikernels.ops.coordinate_decoder.products import PRECISIONS, BF16Products, Products, TF32Products
from equikernels.ops.coordinate_decoder.schedule import IN_MEMORY
from tests.ops.coordinate_decoder.samples import Case, make_case, spread

LAYERS = 2


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "schedule_of", lambda device: IN_MEMORY)


def test_a_device_has_its_schedule() -> None:
    assert schedule.schedule_of(torch.device("cuda", 1)) is IN_MEMORY
    assert schedule.schedule_of(torch.device("cpu")) is schedule.IN_CACHES


def network(case: Case, activation: str, precision: str, mask: str | None) -> tuple[Network, Form]:
    given = (case.coordinates, case.theta, case.shift, case.z, case.weights)
    pixels, theta, shift, form = _checked(*given, activation, 0.01, mask, precision, True)
    net, form = _network(pixels, theta, shift, case.z, case.weights, form)
    return Network(*(x.detach() for x in net)), form


# --- on the CPU -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize("form", ["values", "log_likelihood"])
def test_the_number_of_threads_stays(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = getattr(make_case(), form)(backend="reference")

    def refuse(number: int) -> None:
        raise AssertionError("the number of threads is set")

    # The table's own, which the tensors' device decides.
    monkeypatch.setattr("equikernels.ops.coordinate_decoder.autograd._alone", lambda device: torch.no_grad())
    monkeypatch.setattr(torch, "set_num_threads", refuse)
    torch.testing.assert_close(getattr(make_case(), form)(), expected, rtol=1e-12, atol=1e-12)


class Names(TorchDispatchMode):
    """The operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


# What adds with atomics on a GPU, or may; and what makes the caller wait for it.
FORBIDDEN = {
    "index_add",
    "index_add_",
    "index_put",
    "index_put_",
    "_index_put_impl_",
    "scatter_add",
    "scatter_add_",
    "scatter_reduce",
    "put_",
    "bincount",
    "cumsum",
    "repeat_interleave",
    "embedding_dense_backward",
    "nonzero",
    "_local_scalar_dense",
    "masked_select",
    "_unique2",
}


@pytest.mark.usefixtures("in_memory")
@pytest.mark.parametrize("mask", [None, "disc"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
def test_no_atomics_and_no_waiting(activation: str, precision: str, mask: str | None) -> None:
    case = make_case(layers=LAYERS, dtype=torch.float32)
    net, form = network(case, activation, precision, mask)
    x = torch.rand(3, net.features.shape[0], 1)
    with Names() as names:
        tiled.likelihoods_gradients(torch.ones(3), net, x, form, "bernoulli", False, True, True)
        tiled.values_gradients(torch.ones_like(x), net, form, True, True)
    assert {"bmm", "mm", "addmm"} <= names.seen
    assert not names.seen & FORBIDDEN


@pytest.mark.parametrize("form", ["values", "log_likelihood"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_activations_stay_within_their_memory(
    precision: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    budget = 2**22
    how = IN_MEMORY._replace(tile_bytes=budget)
    monkeypatch.setattr(schedule, "schedule_of", lambda device: how)
    batch, size, units = 60, 28, 64
    case = make_case(batch, (size, size), units=units, dtype=torch.float32)

    def step() -> object:
        out = getattr(case, form)(precision=precision)
        return case.gradients(out, torch.ones_like(out))

    images = batch * size**2 * 4  # bytes of outputs, of x or of a gradient of either
    tables = batch * 3 * units * 4
    used = 1e6 * peak_mb(step, "cpu")
    assert budget / 2 < used < budget + 8 * images + 8 * tables
    assert used < images * units / 1.5


@pytest.mark.usefixtures("in_memory")
def test_a_sum_is_known_without_a_look_at_its_cotangents() -> None:
    """They are one number, expanded; comparing the entries would make a GPU's caller wait."""
    case = make_case()
    out = case.log_likelihood()
    with Names() as names:
        out.sum().backward(retain_graph=True)
    assert "_local_scalar_dense" not in names.seen
    with Names() as names:
        (out * spread(out)).sum().backward()
    assert "_local_scalar_dense" in names.seen


# --- on tensors without values --------------------------------------------------------------------


@pytest.fixture
def without_values(in_memory: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU's schedule and products for tensors on the device "meta", where to read a value is an error."""
    classes = {"float32": Products, "tf32": TF32Products, "bf16": BF16Products}
    monkeypatch.setattr(tiled, "make_products", lambda weights, precision: classes[precision](weights))


def on_meta(
    batch: int, size: int, units: int, activation: str, precision: str
) -> tuple[Network, Form, Tensor]:
    case = make_case(2, (size, size), units=units, layers=LAYERS, dtype=torch.float32)
    net, form = network(case, activation, precision, None)
    table = torch.empty(batch, *net.table.shape[1:], device="meta")
    x = torch.empty(batch, size**2, 1, device="meta")
    return Network(*(t.to("meta") for t in net))._replace(table=table), form, x


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
def test_shapes_and_dtypes_of_every_step(activation: str, precision: str) -> None:
    """Of every product, also of bf16 into float32, which PyTorch has on a GPU only; and no value is read."""
    net, form, x = on_meta(3, 5, 8, activation, precision)
    found, grads, x_grad = tiled.likelihoods_gradients(None, net, x, form, "bernoulli", False, True, True)
    expected = (net.table, net.hidden, net.hidden_bias, net.output, net.output_bias, x)
    for gradient, like in zip((*grads, x_grad), expected, strict=True):
        assert (gradient.shape, gradient.dtype, gradient.device) == (like.shape, like.dtype, like.device)
    assert found.shape == (3,)
    assert tiled.values(net, form).shape == (3, 25, 1)
    with pytest.raises(RuntimeError, match="meta"):
        found.sum().item()


@pytest.mark.usefixtures("without_values")
@pytest.mark.parametrize("batch", [100, 10_000])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_largest_tile(precision: str, batch: int) -> None:
    """Of the benchmarks' pictures: 128 MiB for activations and factors, whatever the batch is."""
    net, form, _ = on_meta(batch, 28, 500, "tanh", precision)
    plan, _ = tiled._prepare(net, form)
    row = 4 * (500 * (LAYERS + 2) + 1) + (2 * 500 * 2 if precision == "bf16" else 0)
    assert 2**27 - 784 * row < row * plan.rows <= 2**27
    assert len(plan.groups) == 1
