"""Derivatives along a group's action: their laws, and the lemma on what first-order expansions leave out."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equikernels.group import (
    O2,
    O3,
    SO2,
    SO3,
    CubeGroup,
    CyclicGroup,
    DihedralGroup,
    DirectProduct,
    Group,
    Lorentz,
    MatrixGroup,
    Representation,
    SpecialOrthogonal,
    SymmetricGroup,
    pixel_grid,
    voxel_grid,
)
from equikernels.group.calculus import (
    first_order_expansion,
    forward_difference,
    lie_derivative,
    remainder_bound,
)
from equikernels.group.words import canonical_word, word_product

ATOL = 1e-10
"""Rounding of float64 sums of some tens of terms of order one to ten, derived twice at most."""

QUATERNIONS = [
    np.kron([[0.0, -1.0], [1.0, 0.0]], m) for m in ([[1.0, 0.0], [0.0, -1.0]], [[0.0, 1.0], [1.0, 0.0]])
]
Q8 = MatrixGroup(elements=QUATERNIONS, name="Q_8")

LIE = {
    "SO(2)": SO2().irrep(1) + SO2().irrep(3) + SO2().trivial(),
    "O(2)": O2().irrep(2) + O2().irrep("det"),
    "SO(3)": SO3().irrep(1) + SO3().irrep(2),
    "O(3)": O3().irrep("1o") + O3().irrep("1e"),
    "SO(4)": SpecialOrthogonal(4).irrep(1) + SpecialOrthogonal(4).irrep((1, 1)),
    "SO(2) x SO(3)": DirectProduct(SO2(), SO3()).irrep((1, 1)) + DirectProduct(SO2(), SO3()).irrep((2, 0)),
}
FINITE = {
    "C_5": CyclicGroup(5).regular(),
    "D_3": DihedralGroup(3).regular(),
    "D_4": DihedralGroup(4).irrep(1) + DihedralGroup(4).defining(),
    "cube": CubeGroup().irrep("T1") + CubeGroup().irrep("E"),
    "S_4": SymmetricGroup(4).defining(),
    "C_4 on pixels": pixel_grid(3, CyclicGroup(4)),
    "C_3 x D_3": DirectProduct(CyclicGroup(3), DihedralGroup(3)).defining(),
    "Q_8": Q8.defining() + Q8.trivial(),
}

seeds = st.integers(0, 2**32 - 1)
lie_reps = st.sampled_from(sorted(LIE)).map(LIE.__getitem__)
finite_reps = st.sampled_from(sorted(FINITE)).map(FINITE.__getitem__)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def tanh_network(n: int, m: int, seed: int, width: int = 6):
    """A smooth random network and its constants: Lipschitz, Lipschitz of the gradient, |f(0)|."""
    first, second, bias = (
        normal(seed, width, n) / math.sqrt(n),
        normal(seed + 1, m, width),
        normal(seed + 2, m),
    )

    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.tanh(x @ first.mT) @ second.mT + bias

    # |tanh'| <= 1 and |tanh''| <= 4 / sqrt(27).
    size, rows = float(torch.linalg.matrix_norm(second, 2)), float(first.norm(dim=1).max())
    lipschitz = size * float(torch.linalg.matrix_norm(first, 2))
    return (
        f,
        lipschitz,
        4 / math.sqrt(27) * lipschitz * rows,
        float(f(torch.zeros(n, dtype=torch.float64)).norm()),
    )


def direction(group: Group, seed: int) -> torch.Tensor:
    """A random algebra element of length one."""
    a = normal(seed, group.lie_dim)
    return a / a.norm()


# -- derivatives -----------------------------------------------------------------------------------


@settings(max_examples=25)
@given(lie_reps, seeds)
def test_lie_derivative_is_the_derivative_of_its_definition(rep: Representation, seed: int) -> None:
    """Against central differences of phi(t), whose error is of the order h^2."""
    group = rep.group
    f, *_ = tanh_network(rep.dim, rep.dim, seed)
    x = normal(seed + 3, 4, rep.dim)
    computed = lie_derivative(f, x, rep, rep)
    h = 1e-5
    for k in range(group.lie_dim):
        a = torch.zeros(group.lie_dim, dtype=torch.float64)
        a[k] = h
        phi = [f(x @ rep(group.exp(s * a)).mT) @ rep(group.exp(-s * a)).mT for s in (1, -1)]
        torch.testing.assert_close(computed[k], (phi[0] - phi[1]) / (2 * h), atol=1e-7, rtol=1e-7)
    # Linear in the algebra element.
    a = normal(seed, 3, group.lie_dim)
    combined = torch.einsum("dk,k...->d...", a, computed)
    torch.testing.assert_close(lie_derivative(f, x, rep, rep, algebra=a), combined, atol=ATOL, rtol=0)


@settings(max_examples=25)
@given(lie_reps, seeds)
def test_equivariant_maps_have_no_lie_derivative(rep: Representation, seed: int) -> None:
    """x times an invariant function of |x| on each irrep; and the norms themselves without act_out."""
    starts = np.cumsum([0, *(m * rep.group.irrep_dim(label) for label, m in rep.irreps)])
    blocks = list(itertools.pairwise(starts))

    def norms(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x[..., i:j].square().sum(-1) for i, j in blocks], dim=-1)

    def equivariant(x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(norms(x) @ weights.mT)
        return torch.cat([x[..., i:j] * gate[..., k, None] for k, (i, j) in enumerate(blocks)], dim=-1)

    weights = normal(seed, len(blocks), len(blocks))
    x = normal(seed + 1, 2, 5, rep.dim)
    d = rep.group.lie_dim
    torch.testing.assert_close(
        lie_derivative(equivariant, x, rep, rep), torch.zeros(d, 2, 5, rep.dim).double(), atol=ATOL, rtol=0
    )
    torch.testing.assert_close(
        lie_derivative(norms, x, rep), torch.zeros(d, 2, 5, len(blocks)).double(), atol=ATOL, rtol=0
    )


@pytest.mark.parametrize(
    ("rep", "invariants"),
    [
        # Sym^2 of 1 + 2: one square each. Of 1 + 1: both squares and the inner product.
        (SO3().irrep(1) + SO3().irrep(2), 2),
        (2 * SO3().irrep(1), 3),
        (2 * SO3().irrep(1) + SO3().trivial(), 4),
        # Two planes of frequency 1: both squares, inner product and area.
        (2 * SO2().irrep(1), 4),
        (SO2().irrep(1) + SO2().irrep(2), 2),
    ],
    ids=repr,
)
def test_quadratic_polynomials_without_lie_derivative_are_the_invariant_ones(
    rep: Representation, invariants: int
) -> None:
    """L f = 0 if and only if f is invariant: the null space of L and the fixed space of the group agree."""
    n, count = rep.dim, rep.dim * (rep.dim + 1) // 2
    upper = torch.triu_indices(n, n)

    def monomials(x: torch.Tensor) -> torch.Tensor:
        return x[..., upper[0]] * x[..., upper[1]]

    points = normal(1, 4 * count, n)
    derivatives = lie_derivative(monomials, points, rep).reshape(-1, count)
    sigma = torch.linalg.svdvals(derivatives)
    null = torch.linalg.svd(derivatives)[2][count - invariants :]
    assert int((sigma < 1e-9 * sigma[0]).sum()) == invariants
    for g in rep.group.unbind(rep.group.sample(5, generator=torch.Generator().manual_seed(2))):
        moved = monomials(points @ rep(g).mT)
        torch.testing.assert_close(moved @ null.mT, monomials(points) @ null.mT, atol=1e-9, rtol=0)
    # And the invariant ones have no derivative: their number is the mean of (chi(g)^2 + chi(g^2)) / 2.
    elements, weights = rep.group.quadrature(4)
    matrices = rep(elements)
    character = matrices.diagonal(dim1=-2, dim2=-1).sum(-1)
    squared = (matrices @ matrices).diagonal(dim1=-2, dim2=-1).sum(-1)
    assert float((weights * (character**2 + squared) / 2).sum()) == pytest.approx(invariants, abs=1e-10)


@settings(max_examples=15)
@given(st.sampled_from(["SO(3)", "O(3)"]), seeds, st.booleans())
def test_brackets_of_lie_derivatives_are_minus_the_structure_constants(
    name: str, seed: int, out: bool
) -> None:
    rep = LIE[name]
    act_out = SO3().irrep(1) if name == "SO(3)" else O3().irrep("1o")
    f, *_ = tanh_network(rep.dim, act_out.dim, seed)
    x = normal(seed + 3, 3, rep.dim)
    target = act_out if out else None
    eye = torch.eye(3, dtype=torch.float64)

    def derived(k: int):
        return lambda y: lie_derivative(f, y, rep, target, algebra=eye[k : k + 1])[0]

    first = lie_derivative(f, x, rep, target)
    c = torch.tensor(rep.group.structure_constants)
    twice = torch.stack([lie_derivative(derived(j), x, rep, target) for j in range(3)], dim=1)
    expected = -torch.einsum("ijk,k...->ij...", c, first)
    torch.testing.assert_close(twice - twice.transpose(0, 1), expected, atol=1e-9, rtol=0)
    assert float(expected.abs().max()) > 1e-3


@settings(max_examples=25)
@given(finite_reps, seeds)
def test_forward_differences_are_their_definition_and_vanish_for_equivariant_maps(
    rep: Representation, seed: int
) -> None:
    group = rep.group
    f, *_ = tanh_network(rep.dim, rep.dim, seed)
    x = normal(seed + 3, 2, 3, rep.dim)
    computed = forward_difference(f, x, rep, rep)
    for difference, s in zip(computed, group.discrete_elements, strict=True):
        rho = rep(s)
        torch.testing.assert_close(difference, f(x @ rho.mT) @ rho - f(x), atol=ATOL, rtol=0)
    everything = rep(group.elements())

    def averaged(y: torch.Tensor) -> torch.Tensor:
        return torch.stack([f(y @ rho.mT) @ rho for rho in everything]).mean(0)

    vanishing = forward_difference(averaged, x, rep, rep)
    torch.testing.assert_close(vanishing, torch.zeros_like(vanishing), atol=ATOL, rtol=0)
    assert float(computed.abs().max()) > 1e-3
    norm = forward_difference(lambda y: y.norm(dim=-1), x, rep)
    torch.testing.assert_close(norm, torch.zeros_like(norm), atol=ATOL, rtol=0)


@pytest.mark.parametrize("side", [5, 8])
def test_scaled_forward_differences_tend_to_the_lie_derivative_like_one_over_n(side: int) -> None:
    """On the spectral pixels of C_n: (n / 2 pi) D_s f = L f + (pi / n) L L f + O(n^-2)."""
    whole = pixel_grid(side, SO2())
    f, *_ = tanh_network(side**2, 3, 7)
    x = normal(8, 4, side**2)
    limit = lie_derivative(f, x, whole)[0]
    second = lie_derivative(lambda y: lie_derivative(f, y, whole)[0], x, whole)[0]
    errors = []
    for n in (200, 400, 800):
        rep = whole.restrict(CyclicGroup(n))
        scaled = forward_difference(f, x, rep)[0] * n / (2 * math.pi)
        errors.append((scaled - limit) * n)
    for error, n in zip(errors, (200, 400, 800), strict=True):
        # What is left is of relative size (frequency 2 pi / n), frequencies up to 2 side here.
        torch.testing.assert_close(
            error, math.pi * second, atol=40 * side / n * float(second.abs().max()), rtol=0
        )
    rate = [float(e.norm()) / n for e, n in zip(errors, (200, 400, 800), strict=True)]
    assert rate[1] / rate[0] == pytest.approx(0.5, abs=0.05)
    assert rate[2] / rate[1] == pytest.approx(0.5, abs=0.05)


# -- the lemma -------------------------------------------------------------------------------------


@given(lie_reps, seeds, st.floats(0.01, 3.1), st.booleans())
def test_lie_remainders_respect_the_proven_bound(rep: Representation, seed: int, t: float, out: bool) -> None:
    act_out = rep if out else None
    f, lipschitz, gradient, offset = tanh_network(rep.dim, rep.dim, seed)
    x = normal(seed + 3, 5, rep.dim)
    g = rep.group.exp(t * direction(rep.group, seed))
    expansion = first_order_expansion(f, x, rep, g, act_out)
    bound = remainder_bound(
        x, rep, g, lipschitz=lipschitz, gradient_lipschitz=gradient, offset=offset, rep_out=act_out
    )
    assert bound.shape == expansion.remainder.shape == (5,)
    assert bool((expansion.remainder <= bound * (1 + 1e-9)).all())


@given(lie_reps, seeds, st.floats(0.01, 3.1))
def test_linear_maps_have_half_the_square_of_the_generator(rep: Representation, seed: int, t: float) -> None:
    """|remainder| <= (|a| |A|)^2 |f| |x| / 2, and `remainder_bound` is never larger."""
    weight = normal(seed, 4, rep.dim)
    x = normal(seed + 1, 5, rep.dim)
    a = direction(rep.group, seed)
    g = rep.group.exp(t * a)
    remainder = first_order_expansion(lambda y: y @ weight.mT, x, rep, g).remainder
    size = float(torch.linalg.matrix_norm(weight, 2))
    generator = torch.einsum("k,kij->ij", a, torch.tensor(rep.generators))
    largest = (t * float(torch.linalg.matrix_norm(generator, 2))) ** 2 / 2 * size * x.norm(dim=-1)
    bound = remainder_bound(x, rep, g, lipschitz=size, gradient_lipschitz=0.0)
    assert bool((remainder <= bound * (1 + 1e-9)).all())
    assert bool((bound <= largest * (1 + 1e-9)).all())


STEEP = 20.0
REFLECTION = torch.tensor([[1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("f", "constants", "out", "share"),
    [
        pytest.param(lambda y: y, (1.0, 0.0, 0.0), False, 1.0, id="L |A^2 x|"),
        # Along the circle cos(K sin t) / K: curvature K, of which the bound M + L = K + 1 keeps room for 1.
        pytest.param(
            lambda y: torch.cos(STEEP * y[..., 1:]) / STEEP,
            (1.0, STEEP, 0.0),
            False,
            STEEP / (STEEP + 1),
            id="M |Ax|^2",
        ),
        # F R(t) = R(-t) F, so that phi turns twice as fast: 1 + 2 + 1 = 2^2.
        pytest.param(lambda y: y @ REFLECTION, (1.0, 0.0, 0.0), True, 1.0, id="2 |B| L |Ax|"),
        pytest.param(lambda y: 0 * y + 3.0, (0.0, 0.0, 3 * math.sqrt(2)), True, 1.0, id="|B|^2 |f(0)|"),
    ],
)
def test_every_term_of_the_lie_bound_is_attained_to_second_order(
    f, constants, out: bool, share: float
) -> None:
    rep = SO2().irrep(1)
    x = torch.tensor([1.0, 0.0], dtype=torch.float64)
    lipschitz, gradient, offset = constants
    for t in (1e-2, 1e-3):
        remainder = first_order_expansion(f, x, rep, t, rep if out else None).remainder
        bound = remainder_bound(
            x,
            rep,
            t,
            lipschitz=lipschitz,
            gradient_lipschitz=gradient,
            offset=offset,
            rep_out=rep if out else None,
        )
        assert float(remainder / bound) == pytest.approx(share, abs=2 * t)


def test_the_finite_bound_counts_what_the_output_turns() -> None:
    """A constant f has no Lipschitz constant to speak of, and still changes by its size in every letter."""
    x = torch.ones(1, dtype=torch.float64)
    turn = CyclicGroup(4).irrep(2)
    # phi is 1, -1, 1 along the word: predicted 1 - 2 - 2, found 1.
    expansion = first_order_expansion(torch.ones_like, x, turn, 2, turn)
    assert float(expansion.remainder) == 4.0
    assert float(remainder_bound(x, turn, 2, lipschitz=0.0, offset=1.0, rep_out=turn)) == 4.0


@settings(max_examples=25)
@given(lie_reps, seeds, st.booleans())
def test_halving_the_step_quarters_the_lie_remainder(rep: Representation, seed: int, out: bool) -> None:
    f, *_ = tanh_network(rep.dim, rep.dim, seed)
    x = normal(seed + 3, 4, rep.dim)
    a = direction(rep.group, seed)
    act_out = rep if out else None

    def left_out(t: float) -> torch.Tensor:
        expansion = first_order_expansion(f, x, rep, rep.group.exp(t * a), act_out)
        pulled = expansion.exact - expansion.value
        return pulled if act_out is None else pulled @ rep(rep.group.exp(t * a))

    # remainder = t^2 / 2 (second derivative) + O(t^3): compared with the second derivative itself, so that
    # a sample where it happens to vanish proves nothing and hides nothing.
    def once(y: torch.Tensor) -> torch.Tensor:
        return lie_derivative(f, y, rep, act_out, algebra=a[None])[0]

    second = lie_derivative(once, x, rep, act_out, algebra=a[None])[0]
    scale = float(second.abs().max()) + 1
    for t in (2e-3, 1e-3):
        # The third derivative is at most some hundred times the scale for frequencies up to 3.
        torch.testing.assert_close(left_out(t) * 2 / t**2, second, atol=200 * t * scale, rtol=0)
    ratio = float(left_out(1e-3).norm() / left_out(2e-3).norm())
    assert ratio == pytest.approx(0.25, abs=0.02)


@given(finite_reps, seeds, st.booleans())
def test_finite_remainders_respect_the_proven_bound(rep: Representation, seed: int, out: bool) -> None:
    group = rep.group
    act_out = rep if out else None
    f, lipschitz, _, offset = tanh_network(rep.dim, rep.dim, seed)
    x = normal(seed + 3, 5, rep.dim)
    (g,) = group.unbind(group.sample(1, generator=torch.Generator().manual_seed(seed)))
    expansion = first_order_expansion(f, x, rep, g, act_out)
    bound = remainder_bound(x, rep, g, lipschitz=lipschitz, offset=offset, rep_out=act_out)
    assert bool((expansion.remainder <= bound * (1 + 1e-9) + 1e-12).all())
    if act_out is None:
        published = 2 * lipschitz * float(group.length(g)) * x.norm(dim=-1)
        assert bool((expansion.remainder <= published * (1 + 1e-9) + 1e-12).all())


@settings(max_examples=25)
@given(finite_reps, seeds, st.booleans())
def test_finite_expansions_sum_the_differences_of_their_letters(
    rep: Representation, seed: int, out: bool
) -> None:
    group = rep.group
    f, *_ = tanh_network(rep.dim, rep.dim, seed)
    x = normal(seed + 3, 2, rep.dim)
    (g,) = group.unbind(group.sample(1, generator=torch.Generator().manual_seed(seed)))
    expected = f(x)
    for letter in canonical_word(group, g):
        rho = rep(word_product(group, (letter,)))
        value = f(x @ rho.mT)
        expected = expected + (value @ rho if out else value) - f(x)
    rho = rep(g)
    expansion = first_order_expansion(f, x, rep, g, rep if out else None)
    torch.testing.assert_close(expansion.value, expected @ rho.mT if out else expected, atol=ATOL, rtol=0)
    torch.testing.assert_close(expansion.exact, f(x @ rho.mT), atol=ATOL, rtol=0)
    torch.testing.assert_close(
        expansion.remainder, (expansion.exact - expansion.value).norm(dim=-1), atol=ATOL, rtol=0
    )


@pytest.mark.parametrize("name", sorted(FINITE))
def test_letters_multiply_to_the_element(name: str) -> None:
    """A function with values in the matrices shows which letters were taken."""
    rep = FINITE[name]
    group = rep.group
    taken: list[torch.Tensor] = []

    def f(y: torch.Tensor) -> torch.Tensor:
        taken.append(y)
        return y

    for g in group.unbind(group.elements()):
        taken.clear()
        first_order_expansion(f, torch.eye(rep.dim, dtype=torch.float64), rep, g)
        letters = [y.mT for y in taken[1:-1]]  # between f(x) and f(rho(g) x)
        assert len(letters) == int(group.word_length(g))
        product = functools.reduce(torch.matmul, letters, torch.eye(rep.dim, dtype=torch.float64))
        torch.testing.assert_close(product, rep(g), atol=ATOL, rtol=0)


def test_the_finite_bound_is_not_small_for_good_reason() -> None:
    """A function that one turn leaves alone and three turns do not: all of it is remainder."""
    rep = CyclicGroup(6).regular()
    x = torch.eye(6, dtype=torch.float64)[0]

    def bump(y: torch.Tensor) -> torch.Tensor:
        return y[..., 3:4]

    expansion = first_order_expansion(bump, x, rep, 3)
    assert expansion.value.tolist() == [0.0]
    assert expansion.exact.tolist() == [1.0]
    assert float(remainder_bound(x, rep, 3, lipschitz=1.0)) == 6.0
    for g in (0, 1, 5):
        assert float(first_order_expansion(bump, x, rep, g).remainder) == 0.0
        assert float(remainder_bound(x, rep, g, lipschitz=1.0)) == 0.0


@settings(max_examples=20)
@given(st.sampled_from(sorted(LIE | FINITE)), seeds)
def test_expansions_of_equivariant_maps_are_exact(name: str, seed: int) -> None:
    rep = (LIE | FINITE)[name]
    group = rep.group
    g = (
        group.exp(2 * direction(group, seed))
        if group.lie_dim
        else group.unbind(group.sample(1, generator=torch.Generator().manual_seed(seed)))[0]
    )
    x = normal(seed, 3, rep.dim)
    expansion = first_order_expansion(lambda y: y * y.square().sum(-1, keepdim=True), x, rep, g, rep)
    torch.testing.assert_close(expansion.remainder, torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)
    scalar = first_order_expansion(lambda y: y.norm(dim=-1), x, rep, g)
    torch.testing.assert_close(scalar.remainder, torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)


def test_the_lorentz_group_has_derivatives_and_no_bound() -> None:
    """The interval t^2 - x^2 - y^2 - z^2 is invariant, its flow the vector itself is equivariant."""
    rep = Lorentz().defining()
    signs = torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=torch.float64)

    def interval(y: torch.Tensor) -> torch.Tensor:
        return (signs * y.square()).sum(-1, keepdim=True)

    x = normal(1, 5, 4)
    zero = torch.zeros(6, 5, 1, dtype=torch.float64)
    torch.testing.assert_close(lie_derivative(interval, x, rep), zero, atol=ATOL, rtol=0)
    equivariant = lie_derivative(lambda y: y * torch.sin(interval(y)), x, rep, rep)
    torch.testing.assert_close(equivariant, torch.zeros(6, 5, 4).double(), atol=ATOL, rtol=0)
    assert float(lie_derivative(lambda y: y.square().sum(-1), x, rep).abs().max()) > 0.1
    boost = Lorentz().exp([0.0, 0.0, 0.0, 1e-3, 0.0, 0.0])
    assert float(first_order_expansion(lambda y: y[..., :1], x, rep, boost).remainder.max()) < 1e-5
    with pytest.raises(ValueError, match="rep_in must be orthogonal"):
        remainder_bound(x, rep, boost, lipschitz=1, gradient_lipschitz=0)


# -- types and mistakes ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept_and_gradients_flow(dtype: torch.dtype) -> None:
    rep = SO3().irrep(1)
    weight = torch.randn(3, 3, dtype=dtype, requires_grad=True)

    def f(y: torch.Tensor) -> torch.Tensor:
        return torch.tanh(y @ weight.mT)

    x = torch.randn(4, 3, dtype=dtype)
    derivative = lie_derivative(f, x, rep, rep)
    assert derivative.dtype == dtype
    assert derivative.shape == (3, 4, 3)
    derivative.square().sum().backward()
    assert float(weight.grad.abs().max()) > 0
    expansion = first_order_expansion(f, x, rep, SO3().exp([0.1, 0.2, 0.3]), rep)
    assert {t.dtype for t in (expansion.value, expansion.exact, expansion.remainder)} == {dtype}
    assert forward_difference(f, x, CubeGroup().defining(), CubeGroup().defining()).dtype == dtype
    assert remainder_bound(x, rep, SO3().identity, lipschitz=1, gradient_lipschitz=0).dtype == dtype


V, C4 = SO3().irrep(1), CyclicGroup(4).irrep(1)
POINT = torch.ones(3, dtype=torch.float64)
BILINEAR = pixel_grid(3, SO2(), method="bilinear")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lie_derivative(torch.sin, POINT, V, C4), ValueError, r"one group.*SO\(3\).*C_4"),
        (lambda: forward_difference(torch.sin, POINT[:2], C4, V), ValueError, r"one group"),
        (lambda: first_order_expansion(torch.sin, POINT, V, SO3().identity, C4), ValueError, "one group"),
        (lambda: lie_derivative(torch.sin, POINT[:2], V), ValueError, "last dimension 3"),
        (lambda: lie_derivative(torch.sin, POINT.sum(), V), ValueError, "last dimension 3"),
        (lambda: lie_derivative(lambda y: y[..., :2], POINT, V, V), ValueError, "f.x. must have the last"),
        (lambda: lie_derivative(torch.sin, POINT[:2], C4), ValueError, "C_4 has no Lie algebra"),
        (lambda: forward_difference(torch.sin, POINT, V), ValueError, r"SO\(3\) has no discrete generators"),
        (lambda: lie_derivative(torch.sin, POINT, V, algebra=[1.0, 0.0, 0.0]), ValueError, r"shape \(d, 3\)"),
        (lambda: lie_derivative(torch.sin, POINT.long(), V), TypeError, "x must be a floating"),
        (lambda: lie_derivative(lambda y: 1.0, POINT, V), TypeError, "f must return a floating"),
        (lambda: lie_derivative(torch.sin, POINT, SO3()), TypeError, "representation"),
        (
            lambda: first_order_expansion(torch.sin, POINT, V, torch.eye(3).expand(2, 3, 3)),
            ValueError,
            "g must be one element",
        ),
        (lambda: first_order_expansion(torch.sin, POINT[:2], C4, [1, 2]), ValueError, "must be one element"),
        (
            lambda: first_order_expansion(torch.sum, POINT.expand(2, 3), V, SO3().identity),
            ValueError,
            "batch dimensions",
        ),
        (
            lambda: first_order_expansion(torch.sin, POINT, O3().irrep("1o"), -torch.eye(3).double()),
            ValueError,
            "no logarithm",
        ),
        (lambda: remainder_bound(POINT, V, SO3().identity, lipschitz=1), ValueError, "gradient_lipschitz"),
        (lambda: remainder_bound(POINT[:2], C4, 1, lipschitz=-1), ValueError, "lipschitz must be >= 0"),
        (
            lambda: remainder_bound(torch.ones(9).double(), BILINEAR, 0.1, lipschitz=1, gradient_lipschitz=0),
            ValueError,
            "rep_in must be orthogonal",
        ),
    ],
)  # fmt: skip
def test_mistakes_are_named(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_volumes_under_the_cube_group() -> None:
    rep = voxel_grid(3, CubeGroup())
    x = normal(3, 2, 27)
    assert forward_difference(lambda y: y.amax(-1), x, rep).abs().max() == 0
    assert forward_difference(lambda y: y[..., 0], x, rep).shape == (3, 2)
