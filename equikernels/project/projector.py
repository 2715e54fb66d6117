"""Projectors onto the weights that break a symmetry by less than a cut-off."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equikernels.group import Representation
from equikernels.ops.linear import BlockProjection
from equikernels.project.applied import AppliedCutoff, apply_cutoff
from equikernels.project.build import choose_route, engine_for
from equikernels.project.certificate import Certificate, certificate_of
from equikernels.project.cutoffs import Cutoff, Hard
from equikernels.project.engines import IterativeProjection
from equikernels.project.operators import (
    Operators,
    check_weight,
    from_blocks,
    given_operators,
    operators_of,
    to_blocks,
)
from equikernels.project.spectrum import Spectrum


def constraint_spectrum(
    rep_in: Representation, rep_out: Representation | None = None, *, generators: str = "closed"
) -> Spectrum:
    """The singular values of C(W) = W A - B W on one m x n block, all generators stacked.

    Args:
        rep_in: representation on the input, dimension n.
        rep_out: representation on the output, dimension m; default trivial, the invariant layer.
        generators: as for EquivariantProjector.

    Returns:
        The m * n singular values, ascending, in clusters; zeros are the exactly equivariant maps.

    >>> from equikernels.group import SO2
    >>> vector = SO2().irrep(1) + SO2().trivial()
    >>> constraint_spectrum(vector, vector)
    Spectrum({0: 3, 1: 4, 2: 2})
    """
    rep_out = rep_in.group.trivial() if rep_out is None and isinstance(rep_in, Representation) else rep_out
    operators = operators_of(rep_in, rep_out, generators)
    return engine_for(operators, choose_route(operators, "auto")).spectrum


class EquivariantProjector:
    """P(W): the part of a weight whose constraint singular values pass a cut-off.

    A linear map y = W x is equivariant when C(W) = W A - B W is zero for every constraint operator A
    of the input and B of the output (Lie generators, or forward differences rho(s) - I). With the
    singular vectors v_i and values sigma_i of C, P(W) = sum_i f(sigma_i) <v_i, W> v_i, where f is the
    cut-off's response ("Tunable Soft Equivariance with Guarantees", arXiv 2603.26657). Built in
    float64, applied in the dtype of the weight (half precisions compute in float32); differentiable;
    P is self-adjoint, so its backward pass is P itself.

    Args:
        rep_in, rep_out: representations of one group, dimensions n and m.
        cutoff: Hard, Smooth or Softness.
        method: "spectral": exact from the irreps, for one generator or several (`route` says how). "svd":
            singular vectors of the dense constraint, any operators, O((m n)^3). "schur": the published
            rule of whole blocks, which keeps other directions than the singular values say; one generator,
            Hard and BlockSmooth cut-offs. "iterative": Lanczos iteration for each weight, any operators, no
            list of singular values; Hard and Smooth cut-offs. "auto": spectral where it exists, else svd
            for small problems.
        generators: "closed": the constraint is averaged over the group, so that P commutes with it for
            every cut-off: the generators of a finite group are completed under conjugation, those of a
            Lie algebra made orthonormal. "given": the generators alone; then a soft P depends on their
            choice and need not commute. The same for groups with one generator.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    >>> from equikernels.group import SO2
    >>> from equikernels.project import Hard
    >>> vector = SO2().irrep(1) + SO2().trivial()
    >>> P = EquivariantProjector(vector, vector, Hard(0.5))
    >>> P.dimension, P(torch.arange(1.0, 10.0).reshape(3, 3)).round().int().tolist()
    (3, [[3, -1, 0], [1, 3, 0], [0, 0, 9]])
    """

    def __init__(
        self,
        rep_in: Representation,
        rep_out: Representation,
        cutoff: Cutoff,
        *,
        method: str = "auto",
        generators: str = "closed",
    ) -> None:
        self._build(operators_of(rep_in, rep_out, generators), cutoff, method)

    @classmethod
    def from_operators(
        cls,
        operators_in: Sequence[np.ndarray | Tensor],
        operators_out: Sequence[np.ndarray | Tensor],
        cutoff: Cutoff,
        *,
        method: str = "auto",
    ) -> EquivariantProjector:
        """The projector of constraint operators given as matrices, one (n, n) and one (m, m) per generator.

        Skew matrices are Lie generators, rho(s) - I with orthogonal rho(s) forward differences; others
        are projected just the same, but carry no certificate. Several orthogonal ones are split into
        irreps numerically where the dense problem would be large.
        """
        self = cls.__new__(cls)
        self._build(given_operators(operators_in, operators_out), cutoff, method)
        return self

    def _build(self, operators: Operators, cutoff: Cutoff, method: str) -> None:
        if not callable(getattr(cutoff, "response", None)):
            raise TypeError(f"cutoff must be Hard, Smooth or Softness, got {cutoff!r}")
        self._operators = operators
        self._cutoff = cutoff
        self._asked = method
        self._route = choose_route(operators, method)
        # One of the two: a cut-off on a decomposed constraint, or an iteration that decomposes nothing.
        self._applied: AppliedCutoff | None = None
        self._iteration: IterativeProjection | None = None
        if self._route == "iterative":
            self._iteration = IterativeProjection(operators.a, operators.b, cutoff, operators.scale)
        else:
            engine = engine_for(operators, self._route)
            self._applied = apply_cutoff(engine, cutoff, by_blocks=method == "schur")

    def _decomposed(self, what: str) -> AppliedCutoff:
        if self._applied is None:
            raise ValueError(
                f'method="iterative" does not know all singular values, so it has no {what}; others do'
            )
        return self._applied

    # -- what it is ----------------------------------------------------------------------------

    @property
    def rep_in(self) -> Representation | None:
        """The input representation, None for given operators."""
        return self._operators.rep_in

    @property
    def rep_out(self) -> Representation | None:
        """The output representation, None for given operators."""
        return self._operators.rep_out

    @property
    def cutoff(self) -> Cutoff:
        """The cut-off."""
        return self._cutoff

    @property
    def method(self) -> str:
        """The method chosen: "spectral", "schur", "svd" or "iterative"."""
        if self._asked == "schur":
            return "schur"
        return {"dense": "svd", "iterative": "iterative"}.get(self._route, "spectral")

    @property
    def route(self) -> str:
        """How the constraint is decomposed.

        "schur": real Schur forms of one operator on each side; "isotypic": one small problem for each pair of
        irreps; "averaging": index maps of a permutation group; "translations": Fourier transforms; "dense";
        "iterative".
        """
        return self._route

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): the shape of one block."""
        return self._operators.m, self._operators.n

    @property
    def spectrum(self) -> Spectrum:
        """The singular values of the constraint on one block; raises ValueError for method="iterative"."""
        return self._decomposed("spectrum").engine.spectrum

    @property
    def block_projection(self) -> BlockProjection | None:
        """P as two bases and factors between their coordinates, what `equikernels.ops.schur_linear` takes.

        None where the projector knows no bases: for translations, dense decompositions and iterations.
        """
        return None if self._applied is None else self._applied.projection

    @property
    def is_projection(self) -> bool:
        """Whether P(P(W)) = P(W): every response is 0 or 1."""
        return isinstance(self._cutoff, Hard) if self._applied is None else self._applied.is_projection

    @property
    def dimension(self) -> int | float:
        """Free parameters of one block: the rank of a true projector, else the trace of P."""
        trace = self._decomposed("dimension").trace
        return round(trace) if self.is_projection else trace

    def basis(self) -> Tensor:
        """Orthonormal weights (count, m, n), float64, that span the range of P.

        Every direction with response > 0 counts, so a smooth cut-off, which weakens directions and
        removes none, has all m * n of them.
        """
        return torch.as_tensor(self._decomposed("basis").basis())

    def __copy__(self) -> EquivariantProjector:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> EquivariantProjector:
        # Immutable, and its tables can be large: copies of a layer share it. What is trained is copied.
        if not isinstance(self._cutoff, torch.nn.Module):
            return self
        return _rebuild(type(self), self._operators, copy.deepcopy(self._cutoff, memo), self._asked)

    def __reduce__(self) -> tuple[Any, ...]:
        # Tables are made again, or found where others use them.
        return _rebuild, (type(self), self._operators, self._cutoff, self._asked)

    def __repr__(self) -> str:
        m, n = self.shape
        ends = f"{self.rep_in!r} -> {self.rep_out!r}" if self.rep_in is not None else f"{n} -> {m}"
        size = "" if self._applied is None else f", dimension {self.dimension:g}"
        return f"{type(self).__name__}({ends}, {self.cutoff!r}, {self.method}{size})"

    # -- what it does --------------------------------------------------------------------------

    def __call__(self, w: Tensor) -> Tensor:
        """P(W) for W (..., C_out * m, C_in * n), channel-major: every m x n block is projected alike.

        Same shape, dtype and device; NumPy arrays are accepted. Non-finite entries pass through.
        """
        m, n = self.shape
        w = check_weight("w", w, m, n)
        # Half precisions lose the cancellations of the change of basis; float32 holds them.
        working = w if w.dtype in (torch.float32, torch.float64) else w.float()
        with torch.autocast(w.device.type, enabled=False):
            if self._iteration is not None:
                projected = from_blocks(self._iteration(to_blocks(working, m, n)))
            else:
                assert self._applied is not None
                projected = self._applied(working)
        return projected.to(w.dtype)

    def certificate(self, w: Tensor) -> Certificate:
        """What is guaranteed for the projection of this raw weight.

        Takes W0 (C_out * m, C_in * n), projects it in float64 and bounds
        |rho_out(g)^-1 P(W0) rho_in(g) - P(W0)|. Raises ValueError where no theorem applies: operators
        that are neither skew nor forward differences of orthogonal matrices, or non-finite weights.
        """
        m, n = self.shape
        raw = check_weight("w", w, m, n).detach().double().cpu()
        if raw.ndim != 2 or raw.numel() == 0:
            raise ValueError(
                f"w must be one non-empty weight (C_out * {m}, C_in * {n}), got {tuple(raw.shape)}"
            )
        if not bool(torch.isfinite(raw).all()):
            raise ValueError("w must be finite, but it holds NaN or infinity")
        with torch.no_grad():
            projected = EquivariantProjector.__call__(self, raw)
        if self._applied is None:
            return certificate_of(self._operators, None, None, raw, projected, self._cutoff)
        engine, response = self._applied.engine, self._applied.response
        return certificate_of(self._operators, engine, response, raw, projected, self._cutoff)


def _rebuild(
    kind: type[EquivariantProjector], operators: Operators, cutoff: Cutoff, method: str
) -> EquivariantProjector:
    """A projector from what it was made of."""
    projector = kind.__new__(kind)
    projector._build(operators, cutoff, method)
    return projector


class InvariantProjector(EquivariantProjector):
    """The projector of invariant layers w . x: rep_out is trivial and weights are vectors.

    P(w) = sum over sigma_i of f(sigma_i) u_i u_i^T w with the left singular vectors of A, for w of
    shape (..., C * n), channel-major. A linear layer's rows are such vectors, so a weight
    (features, C * n) is projected row by row. The certificate takes the weight as (rows, C * n) or as
    one vector.

    >>> from equikernels.group import CyclicGroup, pixel_grid
    >>> from equikernels.project import Softness
    >>> P = InvariantProjector(pixel_grid(14, CyclicGroup(4)), Softness(0))
    >>> P.dimension
    49
    """

    def __init__(
        self, rep: Representation, cutoff: Cutoff, *, method: str = "auto", generators: str = "closed"
    ) -> None:
        if not isinstance(rep, Representation):
            raise TypeError(f"rep must be a Representation, got {type(rep).__name__}")
        super().__init__(rep, rep.group.trivial(), cutoff, method=method, generators=generators)

    @classmethod
    def from_operators(  # type: ignore[override]
        cls, operators: Sequence[np.ndarray | Tensor], cutoff: Cutoff, *, method: str = "auto"
    ) -> InvariantProjector:
        """The invariant projector of constraint operators (n, n), one per generator."""
        self = cls.__new__(cls)
        zeros = [np.zeros((1, 1)) for _ in operators]
        self._build(given_operators(operators, zeros), cutoff, method)
        return self

    def __call__(self, w: Tensor) -> Tensor:
        """P(w) for w (..., C * n): same shape, dtype and device."""
        rows = self._rows(w)
        return super().__call__(rows).reshape(w.shape)

    def certificate(self, w: Tensor) -> Certificate:
        """Bounds |P(w0) rho(g) - P(w0)| for rows (rows, C * n) or one vector (C * n,)."""
        return super().certificate(self._rows(w))

    def _rows(self, w: Any) -> Tensor:
        rows = w if isinstance(w, Tensor) else torch.as_tensor(np.asarray(w))
        if rows.ndim == 0:
            raise ValueError(f"w must have shape (..., C * {self.shape[1]}), got a scalar")
        return rows.unsqueeze(0) if rows.ndim == 1 else rows

    def basis(self) -> Tensor:
        """Orthonormal vectors (count, n), float64, that span the range of P."""
        return super().basis().squeeze(1)
