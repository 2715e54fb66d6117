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
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from equikernels.project.cutoffs import Cutoff, Hard, Smooth
from equikernels.project.engines import Engine
from equikernels.project.operators import ORTHOGONALITY_TOLERANCE, Operators, from_blocks, is_skew, to_blocks


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

    An element's length has two parts: |a| of a Lie generator and the letters of a word in the discrete
    ones. A group has one of them, or both (O(2): an angle and a flip), and the bounds of the parts add.

    Attributes:
        weight: W (C_out * m, C_in * n), float64.
        norm: |W|_F.
        lie_slope: |(C_1 W, ..., C_d W)|_F over the Lie generators: the error per unit of |a|.
        discrete_slope: max_s |C_s W|_F over the discrete generators: the error per letter.
    """

    weight: Tensor
    norm: float
    lie_slope: float
    discrete_slope: float
    _operators: Operators
    _kinds: tuple[bool, ...]
    _phases: np.ndarray | None
    _energies: np.ndarray
    _kept: np.ndarray
    _prior_norm: float
    _prior_slopes: tuple[float, float]
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
            radius: instead of `g`: radians for a Lie group, letters for a finite one. In a group with both it
                limits the Lie part, and every word is allowed.
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
            group = self._group("bound(g)")
            parts = group.lengths(group.check(g))
            angle, letters = (t.detach().double().cpu().numpy() for t in parts)
            values = self._at(angle, letters, kind, norm, monotone=False)
            return float(values) if values.ndim == 0 else torch.as_tensor(values)
        if isinstance(radius, bool) or not isinstance(radius, (int, float, np.integer, np.floating)):
            raise TypeError(f"radius must be a number, got {radius!r}")
        if not radius >= 0:
            raise ValueError(f"radius must be >= 0, got {radius}")
        angle, letters = _parts_of_radius(self._operators, self._kinds, float(radius))
        return float(self._at(angle, letters, kind, norm, monotone=True))

    @property
    def _is_mixed(self) -> bool:
        return any(self._kinds) and not all(self._kinds)

    def supremum(self, kind: str = "posterior", norm: str = "frobenius") -> float:
        """The bound over the whole group: `bound` at the radius of its diameter."""
        return float(self.bound(radius=math.inf, kind=kind, norm=norm))

    def _at(
        self, angle: np.ndarray, letters: np.ndarray, kind: str, norm: str, *, monotone: bool
    ) -> np.ndarray:
        if self._phases is not None:
            # One generator: the length is the one part there is.
            chords = _chord(self._phases, angle if self._kinds[0] else letters, monotone=monotone)
            if kind == "prior":
                return np.asarray(self._prior_norm * (chords * self._kept).max(axis=-1, initial=0.0))
            frobenius = np.sqrt((chords**2 * self._energies).sum(axis=-1))
        else:
            prior = self._sum(self._prior_slopes, angle, letters, self._prior_norm)
            if kind == "prior":
                return prior
            # Slopes measured on W are zero up to rounding only, which an unbounded length would magnify.
            measured = self._sum((self.lie_slope, self.discrete_slope), angle, letters, self.norm)
            frobenius = np.minimum(measured, prior)
        if norm == "frobenius":
            return np.asarray(frobenius)
        operator = self._sum(self._operator_slopes, angle, letters, self._operator_norm)
        return np.asarray(np.minimum(frobenius, operator))

    @staticmethod
    def _sum(slopes: tuple[float, float], angle: np.ndarray, letters: np.ndarray, norm: float) -> np.ndarray:
        """Both parts with their slopes, at most 2 |W|; 0 where either is 0, the other infinite or not."""
        with np.errstate(invalid="ignore"):
            parts = [
                np.where((slope == 0) | (t == 0), 0.0, slope * t)
                for slope, t in zip(slopes, (angle, letters), strict=True)
            ]
        return np.asarray(np.minimum(parts[0] + parts[1], 2 * norm))

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
        if self._is_mixed:
            raise ValueError(
                f"the published theorem is for Lie groups or finite groups; {group!r} is both at once"
            )
        radius = group.injectivity_radius if group.lie_dim else group.diameter
        eta = self._paper_cutoff * math.sqrt(max(group.lie_dim, 1)) * radius
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
    def _operator_slopes(self) -> tuple[float, float]:
        kinds = torch.tensor(self._kinds)
        return _slopes(self._constraint[kinds], self._constraint[~kinds], order=2)

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


def _parts_of_radius(
    operators: Operators, kinds: tuple[bool, ...], radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """The largest |a| and the most letters of elements within a radius, at most the group's diameter.

    Where there are both, the radius is that of the Lie part, and every word is allowed.
    """
    lie, discrete = any(kinds), not all(kinds)
    letters = radius if math.isinf(radius) else math.floor(radius)  # a word has whole letters
    limits = (math.inf, math.inf)
    if operators.group is not None:
        limits = operators.group.diameters
    if lie and discrete:
        if operators.group is None:
            raise ValueError("radius needs a group where operators are Lie and discrete at once")
        letters = limits[1]
    angle = min(radius, limits[0]) if lie else 0.0
    return np.asarray(angle), np.asarray(float(min(letters, limits[1])) if discrete else 0.0)


def relative_bounds(operators: Operators, engine: Engine, radius: float) -> np.ndarray:
    """The largest error within a radius, relative to |W|_F, of weights in each cluster (clusters,)."""
    operators = operators.letters()
    kinds = _kinds(operators)
    angle, letters = _parts_of_radius(operators, kinds, radius)
    if len(kinds) == 1:
        phases = _phases(engine.spectrum.values, kinds[0])
        return _chord(phases, angle if kinds[0] else letters, monotone=True)
    slopes = zip((engine.lie_slopes, engine.discrete_slopes), (angle, letters), strict=True)
    return np.minimum(sum(np.where(slope == 0, 0.0, slope * t) for slope, t in slopes), 2.0)


def _phases(sigma: np.ndarray, lie: bool) -> np.ndarray:
    """The angle by which each singular part turns per unit of length, for one generator."""
    # Orthogonal rho(s) has |rho(s)^-1 . rho(s) - 1| <= 2; rounding may pass that by 1e-16.
    return sigma if lie else 2 * np.arcsin(np.minimum(sigma / 2, 1.0))


def apply_constraint(operators: Operators, weight: Tensor) -> Tensor:
    """C_k(W) = W A_k - B_k W block by block (d, C_out * m, C_in * n), float64."""
    blocks = to_blocks(weight, operators.m, operators.n)
    a = torch.tensor(operators.a, dtype=torch.float64)[:, None, None]
    b = torch.tensor(operators.b, dtype=torch.float64)[:, None, None]
    return from_blocks(blocks @ a - b @ blocks)


def _slopes(lie: Tensor, discrete: Tensor, order: int | str) -> tuple[float, float]:
    """|(C_k W)_k| stacked over Lie generators, max_s |C_s W| over discrete ones, for (k, rows, columns)."""
    stacked = float(torch.linalg.matrix_norm(lie.flatten(0, 1), ord=order)) if len(lie) else 0.0
    return stacked, max((float(torch.linalg.matrix_norm(c, ord=order)) for c in discrete), default=0.0)


def _kinds(operators: Operators) -> tuple[bool, ...]:
    """For each operator whether it is a Lie generator; raises ValueError where no theorem applies."""
    for name, rep in (("rep_in", operators.rep_in), ("rep_out", operators.rep_out)):
        if rep is not None and not rep.is_orthogonal:
            defect = rep.defects()["orthogonality"]
            raise ValueError(
                f"no bound holds: {name} ({rep!r}) is not an orthogonal representation "
                f"(|rho rho^T - I| is {defect:.1e}); measure its error instead"
            )
    group = operators.group
    if group is not None:
        return (True,) * group.lie_dim + (False,) * len(group.discrete_elements)
    kinds = tuple(is_skew(a) and is_skew(b) for a, b in zip(operators.a, operators.b, strict=True))
    for k, (lie, a, b) in enumerate(zip(kinds, operators.a, operators.b, strict=True)):
        for x in () if lie else (a, b):
            rho = x + np.eye(len(x))
            defect = float(np.abs(rho @ rho.T - np.eye(len(x))).max())
            if not defect <= ORTHOGONALITY_TOLERANCE:
                raise ValueError(
                    f"no bound holds: operator {k} is neither skew on both sides (a Lie generator) nor "
                    f"rho(s) - I with orthogonal rho(s) (|rho rho^T - I| is {defect:.1e}); "
                    "measure the error instead"
                )
    return kinds


def _largest_slope(cutoff: Cutoff) -> float:
    """The supremum of f(sigma) sigma over all sigma >= 0, for cut-offs that know no spectrum."""
    if isinstance(cutoff, Smooth) and cutoff.width > cutoff.cutoff:
        return cutoff.width * math.exp(-(cutoff.width - cutoff.cutoff) / cutoff.width)
    if isinstance(cutoff, (Hard, Smooth)):
        return cutoff.cutoff
    return math.inf


def certificate_of(
    operators: Operators,
    engine: Engine | None,
    response: np.ndarray | None,
    raw: Tensor,
    projected: Tensor,
    cutoff: Cutoff,
) -> Certificate:
    """The certificate of a projected weight (float64 CPU), from the projector's own numbers.

    `engine` and the `response` of its clusters are None where the projector iterates without a spectrum.
    """
    # Words are made of the generators alone, whatever set the projector was built from.
    operators = operators.letters()
    kinds = _kinds(operators)
    norm = float(projected.norm())
    if engine is None or response is None:
        exact = isinstance(cutoff, Hard)
        largest = _largest_slope(cutoff)
        phases, energies, kept = None, np.zeros(0), np.zeros(0)
        slopes = (largest, largest)
    else:
        exact, kept = bool(np.isin(response, (0.0, 1.0)).all()), response
        sigma = engine.spectrum.values
        largest = float((kept * sigma).max(initial=0.0))
        slopes = (
            float((kept * engine.lie_slopes).max(initial=0.0)),
            float((kept * engine.discrete_slopes).max(initial=0.0)),
        )
        phases, energies = None, np.zeros(0)
        if len(kinds) == 1:
            phases = _phases(sigma, kinds[0])
            energies = engine.energies(to_blocks(projected, operators.m, operators.n))
    prior_norm = norm if exact else float(raw.norm())
    constraint = apply_constraint(operators, projected)
    mask = torch.tensor(kinds)
    lie_slope, discrete_slope = _slopes(
        constraint[mask].flatten(1)[:, None], constraint[~mask].flatten(1)[:, None], order="fro"
    )
    return Certificate(
        weight=projected,
        norm=norm,
        lie_slope=lie_slope,
        discrete_slope=discrete_slope,
        _operators=operators,
        _kinds=kinds,
        _phases=phases,
        _energies=energies,
        _kept=kept,
        _prior_norm=prior_norm,
        _prior_slopes=(slopes[0] * prior_norm, slopes[1] * prior_norm),
        _paper_cutoff=cutoff.cutoff if isinstance(cutoff, Hard) else largest,
    )
