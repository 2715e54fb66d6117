"""Assertions that a representation is one, and that a function commutes with a group."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from equikernels.group import Representation
from equikernels.metrics import Action, apply_action
from equikernels.testing.tolerances import tolerance


def _some_elements(rep: Representation, count: int, seed: int) -> list[Any]:
    """All elements of a small group, else random ones (the first is the identity)."""
    group = rep.group
    if group.order is not None and group.order <= count:
        return group.unbind(group.elements())
    drawn = group.sample(count - 1, generator=torch.Generator().manual_seed(seed))
    return [group.identity, *group.unbind(drawn)]


def assert_representation(
    rep: Representation, *, elements: int = 8, seed: int = 0, atol: float = 1e-9
) -> None:
    """Assert that rho is a homomorphism, agrees with its generators and its normal form, and is orthogonal
    where the group is compact.

    Args:
        rep: any representation; computed in float64.
        elements: how many elements are drawn (every one of a smaller group), and paired.
        seed: of the draw.
        atol: the largest error of an entry allowed, relative to the largest entry where that is beyond 1,
            as it can be for groups that are not compact.

    Raises:
        AssertionError: naming the law that fails, its elements and its error.

    >>> from equikernels.group import SO2, pixel_grid
    >>> assert_representation(pixel_grid(5, SO2()))
    """
    group = rep.group
    eye = torch.eye(rep.dim, dtype=torch.float64)

    def check(law: str, actual: Tensor, expected: Tensor, size: float = 1.0) -> None:
        size = max([size, *(float(x.abs().max()) for x in (actual, expected) if x.numel())])
        error = float((actual - expected).abs().max()) / size if actual.numel() else 0.0
        assert error <= atol, f"{law} fails for {rep!r}: error {error:.1e}, allowed {atol:.1e}"

    drawn = _some_elements(rep, elements, seed)
    matrices = [rep(g, dtype=torch.float64) for g in drawn]
    sizes = [float(a.abs().max()) if a.numel() else 1.0 for a in matrices]
    check("rho(identity) = I", rep(group.identity, dtype=torch.float64), eye)
    for g, a, size in zip(drawn, matrices, sizes, strict=True):
        if group.is_compact:
            check(f"rho(g) rho(g)^T = I at g = {g}", a @ a.mT, eye)
        inverse = rep(group.inverse(g), dtype=torch.float64)
        check(f"rho(g^-1) = rho(g)^-1 at g = {g}", inverse @ a, eye, size**2)
        for h, b, other in zip(drawn, matrices, sizes, strict=True):
            product = rep(group.compose(g, h), dtype=torch.float64)
            check(f"rho(g) rho(h) = rho(gh) at g = {g}, h = {h}", a @ b, product, size * other)
    generators = torch.tensor(rep.generators)
    structure = torch.tensor(group.structure_constants)
    for k, generator in enumerate(generators):
        coordinates = torch.zeros(group.lie_dim, dtype=torch.float64)
        coordinates[k] = 0.3
        turned = rep(group.exp(coordinates), dtype=torch.float64)
        check(
            f"rho(exp(0.3 X_{k})) = exp(0.3 d rho(X_{k}))", turned, torch.linalg.matrix_exp(0.3 * generator)
        )
        for j in range(k):
            bracket = generators[j] @ generator - generator @ generators[j]
            expected = torch.einsum("k,kab->ab", structure[j, k], generators)
            check(f"[X_{j}, X_{k}] = sum_l c_{j}{k}l X_l for the generators", bracket, expected)
    for element, matrix in zip(group.discrete_elements, torch.tensor(rep.discrete), strict=True):
        check(f"the generator {element}", matrix, rep(element, dtype=torch.float64))
    normal = Representation(group, rep.irreps, rep.change_of_basis)
    for g, a in zip(drawn, matrices, strict=True):
        check(f"the normal form at g = {g}", normal(g, dtype=torch.float64), a)


def assert_equivariant(
    f: Callable[[Tensor], Tensor],
    x: Tensor,
    act_in: Action,
    act_out: Action,
    elements: Any = None,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    seed: int = 0,
) -> None:
    """Assert f(g x) = g f(x) for each element; of any group, compact or not.

    Args:
        f: the function, a module for example.
        x: its input, any shape that `act_in` can move; a floating dtype.
        act_in, act_out: a Representation, which acts on the last dimension (channels * dim, channel-major),
            or a function (g, x) -> g x.
        elements: an iterable of elements; default: with representations, all elements of a group of at
            most eight, else the identity and seven random ones.
        rtol, atol: default `tolerance(x.dtype)`.

    Raises:
        AssertionError: naming the law, the element at which it fails and by how much.
        ValueError: no elements, and no representation to draw them from.

    >>> from equikernels.group import SO2
    >>> from equikernels.nn import SoftLinear
    >>> from equikernels.project import Softness
    >>> rep = SO2().irrep(1) + SO2().trivial()
    >>> assert_equivariant(SoftLinear(rep, rep, Softness(0)), torch.randn(5, 3), rep, rep)
    """
    if elements is None:
        known = [action for action in (act_in, act_out) if isinstance(action, Representation)]
        if not known:
            raise ValueError("elements must be given: neither act_in nor act_out is a Representation")
        elements = _some_elements(known[0], 8, seed)
    elements = list(elements)
    if not elements:
        raise ValueError("elements must not be empty: nothing would be checked")
    default = tolerance(x.dtype)
    with torch.no_grad():
        plain = f(x)
        for g in elements:
            torch.testing.assert_close(
                f(apply_action(act_in, g, x)),
                apply_action(act_out, g, plain),
                rtol=default.rtol if rtol is None else rtol,
                atol=default.atol if atol is None else atol,
                msg=partial("equivariance fails, f(g x) differs from g f(x) at g = {}: {}".format, g),
            )
