"""Rounded factors: what they are, whose products, and that PyTorch's setting for a GPU is left as it was."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad

from equikernels.ops import CoordinateMLPWeights
from equikernels.ops.coordinate_decoder import products
from equikernels.ops.coordinate_decoder.products import (
    BF16Products,
    Products,
    RoundedProducts,
    TF32Products,
    full_products,
    matmul_setting,
    round_factor,
    rounded_product,
)
from tests.ops.coordinate_decoder.samples import Case, assert_same, make_case

# The bits of a mantissa, the leading one included.
BITS = {"tf32": 11, "bf16": 8}


def rounded(x: np.ndarray, precision: str) -> np.ndarray:
    """To nearest, ties to even, in float64."""
    mantissa, exponent = np.frexp(x)
    scale = 2.0 ** BITS[precision]
    return np.ldexp(np.rint(mantissa * scale) / scale, exponent)


@pytest.mark.parametrize("precision", BITS)
@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_rounding(precision: str, values: list[float]) -> None:
    x = torch.tensor([v for v in values if abs(v) >= 2**-126 and abs(v) < 2**127] or [1.0])
    found = round_factor(x, precision, torch.empty_like(x))
    np.testing.assert_array_equal(found.double().numpy(), rounded(x.double().numpy(), precision))


@pytest.mark.parametrize("precision", BITS)
def test_ties_and_special_values(precision: str) -> None:
    last = 2.0 ** (1 - BITS[precision])
    x = torch.tensor([1 + last / 2, 1 + 3 * last / 2, -1 - last / 2, 0.0, -0.0, torch.inf, -torch.inf])
    expected = torch.tensor([1, 1 + 2 * last, -1, 0.0, -0.0, torch.inf, -torch.inf])
    found = round_factor(x, precision, torch.empty_like(x))
    assert torch.equal(found.view(torch.int32), expected.view(torch.int32))
    # The smallest and the largest payloads of a NaN, of both signs.
    bits = torch.tensor([0x7F800001, 0x7FFFFFFF, 0x7F800001 - 2**31, -1], dtype=torch.int32)
    assert round_factor(bits.view(torch.float32), precision, torch.empty(4)).isnan().all()


def test_rounding_what_is_not_contiguous() -> None:
    x = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    for precision in BITS:
        found = round_factor(x.t(), precision, torch.empty(4, 6))
        assert torch.equal(found, round_factor(x, precision, torch.empty(6, 4)).t())


# --- the derivatives of a rounded product ---------------------------------------------------------


def factors() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b, g = (torch.randn(shape, generator=generator) for shape in ((3, 4), (4, 5), (3, 5)))
    return a, b, g


@pytest.mark.parametrize("precision", BITS)
def test_all_products_of_a_derivative_are_rounded(precision: str) -> None:
    a, b, g = factors()
    ra, rb, rg = (torch.from_numpy(rounded(x.double().numpy(), precision)).float() for x in (a, b, g))
    a.requires_grad_()
    b.requires_grad_()
    g.requires_grad_()
    out = rounded_product(a, b, precision)
    torch.testing.assert_close(out, ra @ rb)
    by_a, by_b = torch.autograd.grad(out, (a, b), g, create_graph=True)
    torch.testing.assert_close(by_a, rg @ rb.t())
    torch.testing.assert_close(by_b, ra.t() @ rg)
    (second,) = torch.autograd.grad(by_a, b, torch.ones_like(a))
    torch.testing.assert_close(second, torch.ones_like(ra).t() @ rg)


def test_forward_mode_and_vmap_of_a_rounded_product() -> None:
    a, b, _ = factors()
    ra, rb, rt = (round_factor(x, "bf16", torch.empty_like(x)) for x in (a, b, 2 * a.flip(0)))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(a, 2 * a.flip(0))
        tangent = forward_ad.unpack_dual(rounded_product(dual, b, "bf16")).tangent
    torch.testing.assert_close(tangent, rt @ rb)
    several = torch.func.vmap(lambda x: rounded_product(x, b, "bf16"))(torch.stack([a, 2 * a]))
    torch.testing.assert_close(several, torch.stack([ra @ rb, 2 * ra @ rb]))


# --- the whole decoder, by hand -------------------------------------------------------------------


def whole_numbers() -> Case:
    """A decoder whose sums are exact in float32, and whose factors need more bits than bf16 or TF32 has."""
    generator = torch.Generator().manual_seed(3)

    def random(*shape: int, low: int, high: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator).float().requires_grad_()

    weights = CoordinateMLPWeights(
        coordinate=random(3, 2, low=-2000, high=2000),
        latent=random(3, 1, low=-500, high=500),
        bias=random(3, low=-3000, high=3000),
        hidden=((random(3, 3, low=-4095, high=4096).detach() / 4096).requires_grad_(),),
        hidden_bias=(random(3, low=-1000, high=1000),),
        output=random(1, 3, low=-2, high=3),
        output_bias=random(1, low=-9, high=9),
    )
    axis = torch.tensor([-1.0, 0.0, 1.0])
    return Case(
        coordinates=(axis, axis),
        theta=torch.zeros(2, requires_grad=True),
        shift=torch.zeros(2, 2, requires_grad=True),
        z=torch.tensor([[1.0], [-2.0]], requires_grad=True),
        weights=weights,
        x=random(2, 9, 1, low=-2000, high=2000),
    )


def by_hand(case: Case, precision: str, residual: bool) -> dict[str, Tensor]:
    """The Gaussian log-likelihood for a leaky ReLU of slope 1/2, and gradients of its sum, in float64."""
    w = {name.removeprefix("weights."): t.detach().double().numpy() for name, t in case.leaves.items()}
    axis = case.coordinates[0].double().numpy()
    u = np.array([[x, y] for y in axis for x in axis])

    def slope(a: np.ndarray) -> np.ndarray:
        return np.where(a > 0, 1.0, 0.5)

    a0 = u @ w["coordinate"].T + (w["z"] @ w["latent"].T)[:, None] + w["bias"]
    h0 = a0 * slope(a0)
    weight = rounded(w["hidden[0]"], precision)
    a1 = rounded(h0, precision) @ weight.T + w["hidden_bias[0]"] + (h0 if residual else 0)
    h1 = a1 * slope(a1)
    error = w["x"] - (h1 @ w["output"].T + w["output_bias"])
    g1 = (error @ w["output"]) * slope(a1)
    r1 = rounded(g1, precision)
    g0 = (r1 @ weight + (g1 if residual else 0)) * slope(a0)
    found = {
        "out": -0.5 * (error**2 + np.log(2 * np.pi)).sum((1, 2)),
        "weights.hidden[0]": np.einsum("npi,npj->ij", r1, rounded(h0, precision)),
        "weights.hidden_bias[0]": g1.sum((0, 1)),
        "weights.output": np.einsum("npc,npi->ci", error, h1),
        "weights.output_bias": error.sum((0, 1)),
        "weights.bias": g0.sum((0, 1)),
        "weights.coordinate": np.einsum("npi,pd->id", g0, u),
    }
    return {name: torch.from_numpy(value) for name, value in found.items()}


@pytest.mark.parametrize("residual", [False, True], ids=["", "residual"])
@pytest.mark.parametrize("backend", ["torch", "reference"])
@pytest.mark.parametrize("precision", BITS)
def test_the_factors_that_are_rounded(precision: str, backend: str, residual: bool) -> None:
    """Those of the hidden layers' products and no others: any other set differs by far more than 1e-6."""
    case = whole_numbers()
    options = {"activation": "leaky_relu", "negative_slope": 0.5, "residual": residual, "backend": backend}
    out = case.log_likelihood(likelihood="gaussian", precision=precision, **options)
    expected = by_hand(case, precision, residual)
    grads = case.gradients(out, torch.ones_like(out))
    found = {"out": out.detach(), **grads}
    assert_same({name: found[name].double() for name in expected}, expected, rtol=1e-6)


@pytest.mark.parametrize("likelihood", [None, "gaussian_learned_variance"])
@pytest.mark.parametrize("activation", ["tanh", "leaky_relu"])
@pytest.mark.parametrize("precision", BITS)
def test_backends_agree(precision: str, activation: str, likelihood: str | None) -> None:
    """To what a factor here and there makes that rounds the other way in one of them."""
    case = make_case(4, (7, 6), units=40, layers=2, outputs=2, dtype=torch.float32)
    results = []
    for backend in ("torch", "reference"):
        options = {"activation": activation, "precision": precision, "backend": backend, "mask": "disc"}
        if likelihood is None:
            out = case.values(**options)
        else:
            out = case.log_likelihood(likelihood=likelihood, **options)
        results.append({"out": out.detach(), **case.gradients(out, torch.ones_like(out))})
    # One unit in the last place of a factor, in one of the 40 products of a sum.
    assert_same(*results, rtol=2.0 ** -BITS[precision] / 4)


@pytest.mark.parametrize("precision", BITS)
def test_one_pass_and_two_give_the_same(precision: str) -> None:
    case = make_case(3, units=20, layers=2, dtype=torch.float32)
    results = []
    for recompute in (False, True):
        out = case.log_likelihood(precision=precision, recompute=recompute)
        results.append({"out": out.detach(), **case.gradients(out, torch.ones_like(out))})
    assert_same(*results, rtol=1e-6)


# --- a GPU's products, without one ----------------------------------------------------------------

MATMUL = torch.backends.cuda.matmul


@pytest.fixture
def setting() -> Iterator[None]:
    before = MATMUL.fp32_precision, torch.backends.fp32_precision
    yield
    torch.backends.fp32_precision = before[1]
    MATMUL.fp32_precision = before[0]


@pytest.mark.usefixtures("setting")
@pytest.mark.parametrize("before", ["none", "ieee", "tf32"])
@pytest.mark.parametrize("wanted", ["ieee", "tf32"])
def test_the_setting_is_local(wanted: str, before: str) -> None:
    MATMUL.fp32_precision = before
    with matmul_setting(wanted):
        assert MATMUL.fp32_precision in ((wanted, "none") if wanted == "ieee" else ("tf32",))
    assert MATMUL.fp32_precision == before
    with pytest.raises(RuntimeError, match="inside"), matmul_setting(wanted):
        raise RuntimeError("inside")
    assert MATMUL.fp32_precision == before


@pytest.mark.usefixtures("setting")
def test_an_inherited_setting_is_inherited_afterwards() -> None:
    MATMUL.fp32_precision = "none"
    torch.backends.fp32_precision = "tf32"
    assert MATMUL.fp32_precision == "tf32"
    with full_products(torch.device("cuda")):
        assert MATMUL.fp32_precision == "ieee"
    assert MATMUL.fp32_precision == "tf32"
    torch.backends.fp32_precision = "ieee"
    assert MATMUL.fp32_precision == "ieee"


@pytest.mark.usefixtures("setting")
def test_an_older_setting_is_read_as_before() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        with full_products(torch.device("cuda")):
            assert MATMUL.fp32_precision == "ieee"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def multiplied(of: Products, setting: list[str]) -> list[Tensor]:
    """The three products of a layer, with factors from buffers."""
    a, b, g = factors()
    a, b = a[:, :3], b[:3, :3]
    bias, buffers = b[0], of.buffers(3)
    out, back, total = torch.empty(3, 3), torch.empty(3, 3), torch.ones(3, 3)
    left, right = of.factor(a.contiguous(), buffers, 0), of.factor(g[:, :3].contiguous(), buffers, 1)
    of.affine(bias, left, of.weights[0].t(), 2, out)
    of.multiply(right, of.weights[0], back)
    of.accumulate(total, right.t(), left)
    return [out, back, total]


@pytest.mark.usefixtures("setting")
def test_tf32_units_are_on_for_these_products_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for name in ("affine", "multiply", "accumulate"):
        original = getattr(Products, name)

        def spy(*given: object, original=original) -> None:  # type: ignore[no-untyped-def]
            seen.append(MATMUL.fp32_precision)
            original(*given)

        monkeypatch.setattr(Products, name, spy)
    weights = factors()[1][:3, :3][None]
    MATMUL.fp32_precision = "ieee"
    found = multiplied(TF32Products(weights), seen)
    assert seen == ["tf32"] * 3
    assert MATMUL.fp32_precision == "ieee"
    for a, b in zip(found, multiplied(Products(weights), seen), strict=True):
        assert torch.equal(a, b)


def test_bf16_units_multiply_the_same_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    def widening(a: Tensor, b: Tensor, out: Tensor) -> None:
        assert (a.dtype, b.dtype, out.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
        torch.mm(a.float(), b.float(), out=out)

    monkeypatch.setattr(products, "widening_mm", widening)
    weights = factors()[1][:3, :3][None]
    found = multiplied(BF16Products(weights), [])
    expected = multiplied(RoundedProducts(weights, "bf16"), [])
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
