"""Certificates: bounds on the equivariance error of a projected weight, without a remainder term.

For orthogonal representations and g = exp(sum a_k X_k), Duhamel's formula gives

    |rho_out(g)^-1 W rho_in(g) - W|_F <= |a| |(C_1 W, ..., C_d W)|_F,

and telescoping along a word of a finite group gives |g|_S max_s |C_s W|_F. With one generator the error
is even known exactly: W -> rho_out(g)^-1 W rho_in(g) turns the part of W with singular value sigma by
a phase phi per unit of |a| (phi = sigma for a Lie generator, 2 asin(sigma / 2) for a forward
difference), so

    |error at |a| = t|_F^2 = sum over sigma of (2 sin(phi t / 2))^2 |w_sigma|^2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from equikernels.project.cutoffs import Hard
from equikernels.project.operators import Operators, from_blocks, to_blocks
from equikernels.project.spectrum import Spectrum

SKEW_TOLERANCE = 1e-9


class Engine(Protocol):
    """What a certificate reads of a projector."""

    spectrum: Spectrum
    largest_response: np.ndarray

    @property
    def is_projection(self) -> bool: ...
    def energies(self, w: Tensor) -> np.ndarray: ...


class PaperEta(NamedTuple):
    """The published eta without its unknown Taylor remainder, and times sqrt(m) as in its second proof."""

    eta: float
    eta_sqrt_m: float


def _chord(phases: np.ndarray, t: np.ndarray, *, monotone: bool) -> np.ndarray:
    """2 |sin(phase t / 2)|, shape t.shape + (clusters,); `monotone`: its supremum over [0, t]."""
    with np.errstate(invalid="ignore"):
        angle = np.where(phases == 0, 0.0, phases * t[..., None])
    return 2 * np.abs(np.sin(np.minimum(angle, np.pi) / 2 if monotone else angle / 2))


@dataclass(frozen=True, eq=False)
class Certificate:
    """Bounds for |rho_out(g)^-1 W rho_in(g) - W| with W = P(W0), in float64.

    Every bound is given for one element, for all elements within a radius, and as a supremum over the
    group, in the Frobenius or the operator norm. "prior" bounds know only the projector and a norm
    (|W|_F for a true projection, else that of the raw weight W0); "posterior" ones know W. For orthogonal
    representations the relative error |f(rho x) - rho f(x)| of f(x) = W x is at most the operator bound
    times |x|.

    Attributes:
        weight: W (C_out * m, C_in * n), float64.
        norm: |W|_F.
        slope: |(C_1 W, ..., C_d W)|_F, for finite groups max_s |C_s W|_F: the error per unit of |a|.
    """

    weight: Tensor
    norm: float
    slope: float
    _operators: Operators
    _lie: bool
    _phases: np.ndarray | None
    _energies: np.ndarray
    _kept: np.ndarray
    _prior_norm: float
    _prior_slope: float
    _paper_cutoff: float

    # -- bounds --------------------------------------------------------------------------------

    def bound(
        self,
        g: Any = None,
        *,
        radius: float | None = None,
        kind: str = "posterior",
        norm: str = "frobenius",
    ) -> float | Tensor:
        """The bound at elements `g`, or for every element with `length` at most `radius`.

        Args:
            g: elements of the group, batched; the result has their shape (a float for one element).
            radius: instead of `g`: radians for SO(2), letters for a finite group.
            kind: "posterior" (from W) or "prior" (from the projector and a norm).
            norm: "frobenius" or "operator".

        Raises:
            ValueError: both or neither of g and radius, an unknown kind or norm, `g` for a projector
                made from operators, which has no group.
        """
        self._check(kind, norm)
        if (g is None) == (radius is None):
            raise ValueError("bound needs either g or radius=..., and not both")
        if g is not None:
            length = self._group("bound(g)").length(self._group("bound(g)").check(g))
            t = length.detach().double().cpu().numpy()
            values = self._at(t, kind, norm, monotone=False)
            return float(values) if values.ndim == 0 else torch.as_tensor(values)
        if isinstance(radius, bool) or not isinstance(radius, (int, float, np.integer, np.floating)):
            raise TypeError(f"radius must be a number, got {radius!r}")
        if not radius >= 0:
            raise ValueError(f"radius must be >= 0, got {radius}")
        # A word has whole letters.
        t = float(radius) if self._lie or math.isinf(radius) else float(math.floor(radius))
        if self._operators.group is not None:
            t = min(t, self._operators.group.diameter)
        return float(self._at(np.asarray(t), kind, norm, monotone=True))

    def supremum(self, kind: str = "posterior", norm: str = "frobenius") -> float:
        """The bound over the whole group: `bound` at the radius of its diameter."""
        return float(self.bound(radius=math.inf, kind=kind, norm=norm))

    def _at(self, t: np.ndarray, kind: str, norm: str, *, monotone: bool) -> np.ndarray:
        if kind == "prior":
            if self._phases is None:
                return np.asarray(np.minimum(self._times(self._prior_slope, t), 2 * self._prior_norm))
            chords = _chord(self._phases, t, monotone=monotone) * self._kept
            return np.asarray(self._prior_norm * chords.max(axis=-1, initial=0.0))
        if self._phases is None:
            frobenius = np.minimum(self._times(self.slope, t), 2 * self.norm)
        else:
            chords = _chord(self._phases, t, monotone=monotone)
            frobenius = np.sqrt((chords**2 * self._energies).sum(axis=-1))
        if norm == "frobenius":
            return np.asarray(frobenius)
        operator = np.minimum(self._times(self._operator_slope, t), 2 * self._operator_norm)
        return np.asarray(np.minimum(frobenius, operator))

    @staticmethod
    def _times(slope: float, t: np.ndarray) -> np.ndarray:
        return np.zeros_like(t) if slope == 0 else slope * t

    # -- other numbers -------------------------------------------------------------------------

    @property
    def relative(self) -> float:
        """The eta that this certificate proves: the supremum over the group relative to |W|_F, in [0, 2]."""
        return self.supremum() / self.norm if self.norm > 0 else 0.0

    @property
    def paper_eta(self) -> PaperEta:
        """eta = b sqrt(d) r of the published theorem, r the injectivity radius (SO(2): pi b).

        Its Taylor remainder, for finite groups a Lipschitz remainder as large as the error itself, is
        unknown and left out: this number alone proves nothing, and stands here for comparison. Finite
        groups take their word diameter for r. b is the cut-off, or the largest kept response times
        singular value for cut-offs that are not hard.
        """
        group = self._group("paper_eta")
        dimension = group.lie_dim if self._lie else 1
        eta = self._paper_cutoff * math.sqrt(dimension) * group.diameter
        return PaperEta(eta, eta * math.sqrt(self._operators.m))

    def error(self, g: Any, norm: str = "frobenius") -> float | Tensor:
        """The error itself, |rho_out(g)^-1 W rho_in(g) - W| at elements `g`, by float64 matrices.

        In the operator norm this costs a singular value decomposition for each element.
        """
        self._check("posterior", norm)
        group = self._group("error(g)")
        elements = group.to(group.check(g), "cpu")
        shape = group.batch_shape(elements)
        rep_in, rep_out = self._operators.rep_in, self._operators.rep_out
        assert rep_in is not None
        assert rep_out is not None
        m, n = self._operators.m, self._operators.n
        blocks = to_blocks(self.weight, m, n)
        values = []
        for element in group.unbind(elements):
            left = rep_out(element, dtype=torch.float64).mT
            right = rep_in(element, dtype=torch.float64)
            moved = from_blocks(left @ blocks @ right)
            order = 2 if norm == "operator" else "fro"
            values.append(torch.linalg.matrix_norm(moved - self.weight, ord=order))
        if not shape:
            return float(values[0])
        return torch.stack(values).reshape(shape) if values else torch.zeros(shape, dtype=torch.float64)

    @cached_property
    def _constraint(self) -> Tensor:
        """C_k W for each generator (d, C_out * m, C_in * n)."""
        return apply_constraint(self._operators, self.weight)

    @cached_property
    def _operator_norm(self) -> float:
        return float(torch.linalg.matrix_norm(self.weight, ord=2))

    @cached_property
    def _operator_slope(self) -> float:
        if self._lie:
            return float(torch.linalg.matrix_norm(self._constraint.flatten(0, 1), ord=2))
        return max(float(torch.linalg.matrix_norm(c, ord=2)) for c in self._constraint)

    def _group(self, what: str) -> Any:
        if self._operators.group is None:
            raise ValueError(f"{what} needs a group, but this projector was made from operators: use radius=")
        return self._operators.group

    @staticmethod
    def _check(kind: str, norm: str) -> None:
        if kind not in ("posterior", "prior"):
            raise ValueError(f'kind must be "posterior" or "prior", got {kind!r}')
        if norm not in ("frobenius", "operator"):
            raise ValueError(f'norm must be "frobenius" or "operator", got {norm!r}')

    def __repr__(self) -> str:
        numbers = f"|W| = {self.norm:.4g}, posterior supremum {self.supremum():.4g}"
        return f"Certificate({numbers}, prior supremum {self.supremum('prior'):.4g})"


def apply_constraint(operators: Operators, weight: Tensor) -> Tensor:
    """C_k(W) = W A_k - B_k W block by block (d, C_out * m, C_in * n), float64."""
    blocks = to_blocks(weight, operators.m, operators.n)
    a = torch.tensor(operators.a, dtype=torch.float64)[:, None, None]
    b = torch.tensor(operators.b, dtype=torch.float64)[:, None, None]
    return from_blocks(blocks @ a - b @ blocks)


def _kind(operators: Operators) -> bool:
    """True for Lie generators, False for forward differences; raises ValueError where no theorem applies."""
    for name, rep in (("rep_in", operators.rep_in), ("rep_out", operators.rep_out)):
        if rep is not None and not rep.is_orthogonal:
            defect = rep.defects()["orthogonality"]
            raise ValueError(
                f"no bound holds: {name} ({rep!r}) is not an orthogonal representation "
                f"(|rho rho^T - I| is {defect:.1e}); measure its error instead"
            )
    if operators.group is not None:
        if operators.group.lie_dim and operators.group.discrete_elements:
            raise ValueError(
                f"certificates for groups like {operators.group!r}, Lie and discrete at once, "
                "are not available yet"
            )
        return operators.group.lie_dim > 0
    stacks = (operators.a, operators.b)
    scale = max(float(np.abs(x).max()) for x in stacks)
    if all(np.abs(x + x.transpose(0, 2, 1)).max() <= SKEW_TOLERANCE * scale for x in stacks):
        return True
    defect = 0.0
    for x in stacks:
        rho = x + np.eye(x.shape[-1])
        defect = max(defect, float(np.abs(rho @ rho.transpose(0, 2, 1) - np.eye(x.shape[-1])).max()))
    if defect <= SKEW_TOLERANCE:
        return False
    raise ValueError(
        "no bound holds: the operators are neither all skew (Lie generators) nor all rho(s) - I with "
        f"orthogonal rho(s) (|rho rho^T - I| is {defect:.1e}); measure the error instead"
    )


def certificate_of(
    operators: Operators, engine: Engine, raw: Tensor, projected: Tensor, cutoff: Any
) -> Certificate:
    """The certificate of a projected weight (float64 CPU), from the projector's own numbers."""
    # Words are made of the generators alone, whatever set the projector was built from.
    operators = operators.letters()
    lie = _kind(operators)
    sigma, kept = engine.spectrum.values, engine.largest_response
    phases = None
    if operators.count == 1:
        # Orthogonal rho(s) has |rho(s)^-1 . rho(s) - 1| <= 2; rounding may pass that by 1e-16.
        phases = sigma if lie else 2 * np.arcsin(np.minimum(sigma / 2, 1.0))
    norm = float(projected.norm())
    prior_norm = norm if engine.is_projection else float(raw.norm())
    parts = apply_constraint(operators, projected).flatten(1).norm(dim=1)
    largest = float((kept * sigma).max(initial=0.0))
    return Certificate(
        weight=projected,
        norm=norm,
        slope=float(parts.norm()) if lie else float(parts.max()),
        _operators=operators,
        _lie=lie,
        _phases=phases,
        _energies=engine.energies(to_blocks(projected, operators.m, operators.n))
        if phases is not None
        else np.zeros(0),
        _kept=kept,
        _prior_norm=prior_norm,
        _prior_slope=largest * prior_norm,
        _paper_cutoff=cutoff.cutoff if isinstance(cutoff, Hard) else largest,
    )
