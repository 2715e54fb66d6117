"""Derivatives of functions along the action of a group, and what a first-order expansion leaves out.

Write phi(g) = rho_out(g)^-1 f(rho_in(g) x), which is f(x) for every g where f is equivariant. Its derivative
at the identity along the algebra element X_k, and its difference along a discrete generator s, are

    (L_k f)(x) = Df(x) A_k x - B_k f(x),        (D_s f)(x) = rho_out(s)^-1 f(rho_in(s) x) - f(x),

with the Lie generators A_k of rho_in and B_k of rho_out ("Tunable Soft Equivariance with Guarantees",
arXiv 2603.26657). L composes like right translations, so that brackets change sign: [L_i, L_j] f =
Df [A_j, A_i] x - [B_j, B_i] f = - sum_k c_ijk L_k f with the structure constants c of the group.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equikernels.group.group import Element, Group
from equikernels.group.representation import Representation
from equikernels.group.words import canonical_word, word_product

Function = Callable[[Tensor], Tensor]


def lie_derivative(
    f: Function,
    x: Tensor,
    act_in: Representation,
    act_out: Representation | None = None,
    *,
    algebra: Any = None,
) -> Tensor:
    """The derivatives at t = 0 of rho_out(exp(tX))^-1 f(rho_in(exp(tX)) x), along Lie generators X.

    Forward mode: one pass through f for each direction, exact up to rounding. Differentiable in x and in the
    parameters of f; derivatives of derivatives are this function applied to itself.

    Args:
        f: maps (..., n) to (..., m), or without `act_out` to any shape; torch operations with forward
            derivatives.
        x: points (..., n), floating, on any device; the result has the dtype and device of f(x).
        act_in: the representation on x, of dimension n.
        act_out: the representation on f(x), of dimension m; None where f should be invariant.
        algebra: directions (d, lie_dim) as algebra coordinates; default the basis of the Lie algebra.

    Returns:
        (d, *f(x).shape); all zero at every x exactly when f is equivariant under the connected component.

    Raises:
        ValueError: representations of different groups, a wrong last dimension, a group without Lie algebra.
        TypeError: x or f(x) is no floating tensor.

    >>> from equikernels.group import SO2
    >>> point = torch.tensor([3.0, 4.0], dtype=torch.float64)
    >>> lie_derivative(lambda v: v.square().sum(-1), point, SO2().irrep(1)).tolist()
    [0.0]
    >>> lie_derivative(lambda v: v, point, SO2().irrep(1)).tolist()
    [[-4.0, 3.0]]
    """
    group = _check_actions(act_in, act_out)
    _check_points(x, act_in)
    _require_algebra(group)
    if algebra is None:
        directions = torch.eye(group.lie_dim, dtype=torch.float64)
    else:
        directions = torch.as_tensor(algebra, dtype=torch.float64, device="cpu")
    if directions.ndim != 2 or directions.shape[1] != group.lie_dim:
        raise ValueError(
            f"algebra must have shape (d, {group.lie_dim}) for {group!r}, got {tuple(directions.shape)}"
        )
    return torch.stack([_derivative(f, x, act_in, act_out, a) for a in directions])


def forward_difference(
    f: Function, x: Tensor, act_in: Representation, act_out: Representation | None = None
) -> Tensor:
    """rho_out(s)^-1 f(rho_in(s) x) - f(x) for every discrete generator s: (s, *f(x).shape).

    Not divided by a step. Arguments and errors are those of `lie_derivative`, but the group must have
    discrete generators. The inverse is the matrix of the inverse element.

    >>> from equikernels.group import CyclicGroup
    >>> sign = CyclicGroup(2).irrep(1)
    >>> forward_difference(torch.exp, torch.zeros(1, dtype=torch.float64), sign).tolist()
    [[0.0]]
    >>> forward_difference(lambda v: v + 1, torch.zeros(1, dtype=torch.float64), sign, sign).tolist()
    [[-2.0]]
    """
    group = _check_actions(act_in, act_out)
    _check_points(x, act_in)
    if not group.discrete_elements:
        raise ValueError(f"{group!r} has no discrete generators: use lie_derivative")
    at_x = _value(f, x, act_out)
    return torch.stack([_pulled_back(f, x, act_in, act_out, s) - at_x for s in group.discrete_elements])


@dataclass(frozen=True, eq=False)
class FirstOrderExpansion:
    """f(rho_in(g) x) beside what first derivatives or differences at x predict for it.

    Attributes:
        value: the prediction (..., m).
        exact: f(rho_in(g) x), (..., m).
        remainder: |exact - value| of each sample, (...).
    """

    value: Tensor
    exact: Tensor
    remainder: Tensor


def first_order_expansion(
    f: Function, x: Tensor, rep_in: Representation, g: Any, rep_out: Representation | None = None
) -> FirstOrderExpansion:
    """f(rho_in(g) x) to first order in g.

    Lie groups, with a = log g:              rho_out(g) (f(x) + sum_k a_k (L_k f)(x)).
    Finite groups, with the canonical word g = s_1 ... s_w, inverse letters included:
                                             rho_out(g) (f(x) + sum_i (D_(s_i) f)(x)).

    For g = exp(t X) the remainder of a smooth f is O(t^2). For a finite group it is not small: forward
    differences at x say nothing about f at the other points of the orbit, and all that holds for an
    L-Lipschitz f is a remainder of at most 2 L |g| |x|, as large as the change of f itself.
    `remainder_bound` returns what is proven.

    Args:
        f, x, rep_in, rep_out: as in `lie_derivative`; f(x) keeps the batch dimensions of x.
        g: one element. A group with a Lie algebra needs one with a logarithm.

    Raises:
        ValueError, TypeError: as `lie_derivative`; a batch of elements; and as `log` or `word_length` of the
            group.

    >>> from equikernels.group import SO2
    >>> point = torch.tensor([1.0, 0.0], dtype=torch.float64)
    >>> expansion = first_order_expansion(lambda v: v, point, SO2().irrep(1), 0.1)
    >>> expansion.value.tolist()
    [1.0, 0.1]
    >>> round(float(expansion.remainder), 4)  # about 0.1^2 / 2
    0.005
    """
    group = _check_actions(rep_in, rep_out)
    _check_points(x, rep_in)
    element = _one_element(group, g)
    change = _value(f, x, rep_out)
    at_x = change
    if change.shape[: x.ndim - 1] != x.shape[:-1]:
        raise ValueError(
            f"f must keep the batch dimensions {tuple(x.shape[:-1])} of x, got {tuple(change.shape)}"
        )
    if group.lie_dim:
        change = change + _derivative(f, x, rep_in, rep_out, group.log(element).double().cpu())
    else:
        for letter in _letters(group, element):
            change = change + (_pulled_back(f, x, rep_in, rep_out, letter) - at_x)
    exact = _value(f, _moved(rep_in, element, x), rep_out)
    value = change if rep_out is None else _moved(rep_out, element, change)
    difference = (exact - value).reshape(*x.shape[:-1], -1)
    return FirstOrderExpansion(value, exact, torch.linalg.vector_norm(difference, dim=-1))


def remainder_bound(
    x: Tensor,
    rep_in: Representation,
    g: Any,
    *,
    lipschitz: float,
    gradient_lipschitz: float | None = None,
    offset: float = 0.0,
    rep_out: Representation | None = None,
) -> Tensor:
    """A proven bound on the remainder of `first_order_expansion`, for every f with the given constants.

    Let L = `lipschitz`, M = `gradient_lipschitz` and c = `offset` = |f(0)|. With A and B the images of
    a = log g, for Lie groups,

        |remainder| <= (M |Ax|^2 + L |A^2 x| + 2 |B| L |Ax| + |B|^2 (L |x| + c)) / 2,

    which falls with |a|^2; without `rep_out`, B = 0. For finite groups

        |remainder| <= 2 |g| (L |x| + c),

    which does not; the term c stands with `rep_out` only. Words of at most one letter have no remainder.

    Args:
        x: points (..., n), floating.
        rep_in, rep_out, g: as in `first_order_expansion`; orthogonal representations.
        lipschitz: |f(y) - f(z)| <= lipschitz |y - z|.
        gradient_lipschitz: |Df(y) - Df(z)| <= gradient_lipschitz |y - z| in the operator norm, 0 for linear
            f; needed by Lie groups only.
        offset: |f(0)|.

    All three constants need to hold on the ball of radius |x| only.

    Returns:
        (...), in the dtype of x.

    Raises:
        ValueError: as `first_order_expansion`; representations that are not orthogonal; a negative or a
            missing constant.

    >>> from equikernels.group import SO2
    >>> point = torch.tensor([1.0, 0.0], dtype=torch.float64)
    >>> bound = remainder_bound(point, SO2().irrep(1), 0.1, lipschitz=1.0, gradient_lipschitz=0.0)
    >>> round(float(bound), 12)
    0.005
    """
    # Proof. An orthogonal rho keeps the orbit on the sphere of radius |x|, inside the ball of the constants.
    #
    # Lie: with phi(t) = rho_out(exp(ta))^-1 f(y), y = rho_in(exp(ta)) x, Taylor's formula gives
    # |phi(1) - phi(0) - phi'(0)| <= sup |phi''| / 2, and
    #     rho_out phi'' = D^2f(y)[Ay, Ay] + Df(y) A^2 y - 2 B Df(y) Ay + B^2 f(y),
    # where A commutes with exp(tA), so that |Ay| = |Ax| and |A^2 y| = |A^2 x|, and |f(y)| <= L |x| + c. For f
    # with a Lipschitz gradient but no D^2f, convolve f with smooth kernels that shrink.
    #
    # Finite: let phi(g) = rho_out(g)^-1 f(rho_in(g) x) and g = s_1 ... s_w. What is left out is
    #     phi(g) - phi(e) - sum_i (phi(s_i) - phi(e))
    #         = (phi(g) - phi(s_1)) - sum_(i >= 2) (phi(s_i) - phi(e)),
    # w differences of two values of phi. Each is at most 2 L |x|: without rho_out because f is L-Lipschitz,
    # with it because |phi - rho_out^-1 f(0)| <= L |x|, and the values rho_out^-1 f(0) differ by 2 c at most.
    group = _check_actions(rep_in, rep_out)
    _check_points(x, rep_in)
    element = _one_element(group, g)
    for name, rep in (("rep_in", rep_in), ("rep_out", rep_out)):
        if rep is not None and not rep.is_orthogonal:
            raise ValueError(f"{name} must be orthogonal for a bound; {rep!r} is not")
    constants = {"lipschitz": lipschitz, "gradient_lipschitz": gradient_lipschitz, "offset": offset}
    for name, constant in constants.items():
        if constant is not None and not constant >= 0:
            raise ValueError(f"{name} must be >= 0, got {constant!r}")
    size = torch.linalg.vector_norm(x, dim=-1)
    if not group.lie_dim:
        word = int(group.word_length(element))
        reach = lipschitz * size + (0.0 if rep_out is None else offset)
        return 2 * word * reach if word > 1 else torch.zeros_like(size)
    if gradient_lipschitz is None:
        raise ValueError(f"gradient_lipschitz must be given: {group!r} is a Lie group")
    coordinates = group.log(element).double().cpu()
    a = _generator(rep_in, coordinates, x)
    first = torch.linalg.vector_norm(x @ a.mT, dim=-1)
    second = torch.linalg.vector_norm(x @ (a @ a).mT, dim=-1)
    bound: Tensor = gradient_lipschitz * first.square() + lipschitz * second
    if rep_out is not None:
        b = torch.linalg.matrix_norm(_generator(rep_out, coordinates, x), ord=2)
        bound = bound + 2 * b * lipschitz * first + b.square() * (lipschitz * size + offset)
    return bound / 2


# -- pieces --------------------------------------------------------------------------------------------------


def _derivative(
    f: Function, x: Tensor, act_in: Representation, act_out: Representation | None, a: Tensor
) -> Tensor:
    """sum_k a_k (L_k f)(x) for algebra coordinates a (lie_dim,): one forward derivative."""
    tangent = x @ _generator(act_in, a, x).mT
    at_x = torch.func.jvp(lambda y: _value(f, y, act_out), (x,), (tangent,))
    value: Tensor = at_x[0]
    derivative: Tensor = at_x[1]
    return derivative if act_out is None else derivative - value @ _generator(act_out, a, value).mT


def _generator(rep: Representation, a: Tensor, like: Tensor) -> Tensor:
    """sum_k a_k A_k (n, n), summed in float64, then in the dtype and on the device of `like`."""
    return torch.einsum("k,kij->ij", a, torch.tensor(rep.generators)).to(like)


def _moved(rep: Representation, g: Element, x: Tensor) -> Tensor:
    """rho(g) x for points (..., n)."""
    return x @ rep(g, dtype=torch.float64).to(x).mT


def _pulled_back(
    f: Function, x: Tensor, act_in: Representation, act_out: Representation | None, g: Element
) -> Tensor:
    """phi(g) = rho_out(g)^-1 f(rho_in(g) x)."""
    value = _value(f, _moved(act_in, g, x), act_out)
    return value if act_out is None else _moved(act_out, act_out.group.inverse(g), value)


def _letters(group: Group, g: Element) -> list[Element]:
    """The letters of the canonical word of g as elements."""
    return [word_product(group, (letter,)) for letter in canonical_word(group, g)]


def _value(f: Function, x: Tensor, act_out: Representation | None) -> Tensor:
    value = f(x)
    if not isinstance(value, Tensor) or not value.is_floating_point():
        got = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"f must return a floating tensor, got {got}")
    if act_out is not None and (value.ndim == 0 or value.shape[-1] != act_out.dim):
        raise ValueError(
            f"f(x) must have the last dimension {act_out.dim} of its representation, got {tuple(value.shape)}"
        )
    return value


def _check_actions(act_in: Representation, act_out: Representation | None) -> Group:
    for rep in (act_in, act_out):
        if rep is not None and not isinstance(rep, Representation):
            raise TypeError(f"a representation is needed on each side, got {type(rep).__name__}")
    if act_out is not None and act_in.group != act_out.group:
        raise ValueError(
            "the representations must belong to one group: that on the input to "
            f"{act_in.group!r}, that on the output to {act_out.group!r}: restrict one of them"
        )
    return act_in.group


def _check_points(x: Tensor, act_in: Representation) -> None:
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(
            f"x must be a floating tensor, got {x.dtype if isinstance(x, Tensor) else type(x).__name__}"
        )
    if x.ndim == 0 or x.shape[-1] != act_in.dim:
        raise ValueError(
            f"x must have the last dimension {act_in.dim} of its representation, got {tuple(x.shape)}"
        )


def _require_algebra(group: Group) -> None:
    if not group.lie_dim:
        raise ValueError(f"{group!r} has no Lie algebra: use forward_difference")


def _one_element(group: Group, g: Any) -> Element:
    element = group.check(g)
    if tuple(group.batch_shape(element)) != ():
        raise ValueError(
            f"g must be one element of {group!r}, got a batch {tuple(group.batch_shape(element))}"
        )
    return element
