"""The certificate of every softened parameter of a model, against what its weight really does."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from equikernels.project.adapting.parts import Part
from equikernels.project.certificate import Certificate
from equikernels.project.certification.elements import checked_elements, element_text, is_listed
from equikernels.project.certification.tables import markdown_table, number, text_table
from equikernels.project.projector import EquivariantProjector
from equikernels.project.saving.parameters import KNOWN_PARTS, projected_rows, soft_parameters

SLACK = 1e-9
"""What rounding in float64 may add to an error, relative to the raw weight."""

LARGEST_SVD = 512
"""The shorter side of weights up to which errors in the operator norm are measured."""

HEAD = (
    "layer",
    "type",
    "parameter",
    "maps",
    "cut-off",
    "prior",
    "posterior",
    "paper eta",
    "measured",
    "verdict",
)


@dataclass(frozen=True)
class LayerCertificate:
    """One softened parameter W, in float64. Lengths of errors are relative to |W|_F.

    Attributes:
        layer, type, parameter: its module, the module's class, its name.
        representation_in, representation_out: how the group acts on both sides.
        cutoff: the cut-off.
        prior, posterior: bounds of |rho_out(g)^-1 W rho_in(g) - W|_F for every element of the group, from the
            projector alone and from W; None where there is none, for the reason in `note`.
        prior_at, posterior_at: the same for elements of length at most `radius`; None without a radius.
        posterior_operator: as `posterior`, in the operator norm.
        paper: the published eta without its unknown remainder, which alone proves nothing; or None.
        measured, measured_operator: the worst error over the elements looked at; None if not measured.
        worst: the element of the worst error, in words.
        elements: how many elements were looked at, `exhaustive` if they are all there are.
        holds: whether every measured error is at most its bound; None where one of them is missing.
        note: what else is to be said, in words.
    """

    layer: str
    type: str
    parameter: str
    representation_in: str
    representation_out: str
    cutoff: str
    prior: float | None = None
    posterior: float | None = None
    prior_at: float | None = None
    posterior_at: float | None = None
    posterior_operator: float | None = None
    paper: float | None = None
    measured: float | None = None
    measured_operator: float | None = None
    worst: str = ""
    elements: int = 0
    exhaustive: bool = False
    holds: bool | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        if self.holds is None:
            return "no bound" if self.posterior is None else "not measured"
        return "holds" if self.holds else "VIOLATED"


@dataclass(frozen=True, repr=False)
class LayerTable:
    """The certificates of all softened parameters; prints as a table.

    Attributes:
        rows: one for each, in the model's order.
        radius: the radius that was asked for, radians or letters; or None.
    """

    rows: tuple[LayerCertificate, ...]
    radius: float | None = None

    def __iter__(self) -> Iterator[LayerCertificate]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> LayerCertificate:
        return self.rows[index]

    @property
    def violated(self) -> tuple[LayerCertificate, ...]:
        """The rows whose measured error exceeds its bound: there is a mistake somewhere if there are any."""
        return tuple(row for row in self.rows if row.holds is False)

    def __repr__(self) -> str:
        return f"LayerTable({len(self)} softened parameters, {len(self.violated)} violated)"

    def __str__(self) -> str:
        return "\n".join([text_table(*self._cells()), *(["", *self._notes()] if self._notes() else [])])

    def to_markdown(self) -> str:
        """The same as Markdown."""
        notes = [f"- {note}" for note in self._notes()]
        return "\n".join([markdown_table(*self._cells()), *(["", *notes] if notes else [])]) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """The numbers, as JSON knows them."""
        return {"radius": self.radius, "layers": [asdict(row) for row in self.rows]}

    def _cells(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        head = list(HEAD)
        if self.radius is not None:
            head[7:7] = [f"prior <= {self.radius:.4g}", f"posterior <= {self.radius:.4g}"]
        return tuple(head), [self._line(row) for row in self.rows]

    def _line(self, row: LayerCertificate) -> tuple[str, ...]:
        within = () if self.radius is None else (number(row.prior_at), number(row.posterior_at))
        return (
            row.layer or "(itself)",
            row.type,
            row.parameter,
            f"{row.representation_in} -> {row.representation_out}",
            row.cutoff,
            number(row.prior),
            number(row.posterior),
            *within,
            number(row.paper),
            number(row.measured, "not measured"),
            row.verdict,
        )

    def _notes(self) -> list[str]:
        return [f"{row.layer or '(itself)'}.{row.parameter}: {row.note}" for row in self.rows if row.note]


def layer_certificates(
    model: nn.Module, *, radius: float | None = None, samples: int = 16, seed: int = 0
) -> LayerTable:
    """Certify every softened parameter of a model, and measure what it does.

    Errors are those of the weight as a map between representations. Of convolution kernels this is the map
    from the pixels of the window to a number; what it means for images is said by `certify`.

    Args:
        model: a module; computed in float64 on the CPU, whatever its own dtype and device.
        radius: also bound elements of at most this length: radians, or letters of a finite group.
        samples: random elements to measure at; groups of at most 64 elements are measured at all of them.
        seed: of the random elements.

    Raises:
        TypeError, ValueError: naming the argument.

    >>> from equikernels.group import CyclicGroup
    >>> from equikernels.project import soften
    >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    >>> report = soften(model, CyclicGroup(4), softness=0)
    >>> [row.verdict for row in layer_certificates(model)]
    ['holds']
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    rows = ((p.module, p.type, p.parameter, p.part, p.raw) for p in soft_parameters(model))
    return certify_parameters(rows, radius, samples, seed)


def certify_parameters(
    rows: Iterable[tuple[str, str, str, Part, Tensor]], radius: float | None, samples: int, seed: int
) -> LayerTable:
    """The table of (layer, type, parameter, part, raw value) of each softened parameter."""
    check_numbers(radius, samples, seed)
    found = [_certify(*row, radius, samples, seed) for row in rows]
    return LayerTable(tuple(found), radius)


def check_numbers(radius: Any, samples: Any, seed: Any) -> None:
    """Raise TypeError or ValueError for arguments that are no radius, no count or no seed."""
    if radius is not None:
        if isinstance(radius, bool) or not isinstance(radius, (int, float)):
            raise TypeError(f"radius must be a number or None, got {radius!r}")
        if not 0 <= radius < math.inf:
            raise ValueError(f"radius must be finite and >= 0, got {radius}")
    for name, value, least in (("samples", samples, 1), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an integer, got {value!r}")
        if not least <= value < 2**63:
            raise ValueError(f"{name} must be an integer >= {least}, got {value}")


def _certify(
    layer: str,
    kind: str,
    parameter: str,
    part: Part,
    raw: Tensor,
    radius: float | None,
    samples: int,
    seed: int,
) -> LayerCertificate:
    projector = part.projector
    m, n = projector.shape
    known = projector.rep_in is not None
    common: dict[str, Any] = {
        "layer": layer,
        "type": kind,
        "parameter": parameter,
        "representation_in": repr(projector.rep_in) if known else f"{n} dimensions",
        "representation_out": repr(projector.rep_out) if known else f"{m} dimensions",
        "cutoff": repr(projector.cutoff),
    }
    if not isinstance(part, KNOWN_PARTS):
        own = f"projected by a part of your own, {type(part).__name__}: its matrix is not known"
        return LayerCertificate(**common, note=own)
    rows = projected_rows(part, raw.detach().to("cpu", torch.float64))
    if rows.numel() == 0:
        return LayerCertificate(**common, note="empty: nothing to certify")
    certificate, refusal = _told(lambda: projector.certificate(rows))
    if certificate is None:
        return LayerCertificate(**common, note=refusal)
    size = float(rows.norm())
    if certificate.norm <= 1e-13 * size:
        zero = "nothing of the weight is left: it is zero to rounding, and so are its errors"
        return LayerCertificate(**common, prior=0.0, posterior=0.0, note=zero)
    return _row(common, projector, certificate, size, radius, samples, seed)


def _told(compute: Callable[[], Any]) -> tuple[Any, str]:
    """What a certificate says, or the reason why there is none: a refusal is a result here, not a failure."""
    try:
        return compute(), ""
    except ValueError as reason:
        return None, str(reason)


def _row(
    common: dict[str, Any],
    projector: EquivariantProjector,
    certificate: Certificate,
    size: float,
    radius: float | None,
    samples: int,
    seed: int,
) -> LayerCertificate:
    norm = certificate.norm
    notes: list[str] = []

    def bound(what: str, compute: Callable[[], Any], cap: float | None = 2.0) -> float | None:
        value, refusal = _told(compute)
        if refusal:
            notes.append(f"no {what}: {refusal}")
        elif not math.isfinite(value):
            notes.append(f"{what} infinite: it bounds nothing")
        else:
            return float(value) / norm if cap is None else min(float(value) / norm, cap)
        return None

    # rho is orthogonal, so every error is at most 2 |W|; a prior bound from the raw weight may say less.
    bounds = {
        "prior": bound("prior bound", lambda: certificate.supremum("prior")),
        "posterior": bound("posterior bound", certificate.supremum),
        "posterior_operator": bound("operator bound", lambda: certificate.supremum(norm="operator")),
    }
    if radius is not None:
        for name, kind in (("prior_at", "prior"), ("posterior_at", "posterior")):
            within = partial(certificate.bound, radius=radius, kind=kind)
            bounds[name] = bound(f"{kind} bound within the radius", within)
    eta, refusal = _told(lambda: certificate.paper_eta.eta)
    if eta is None or not math.isfinite(eta):
        notes.append(f"no published eta: {refusal or 'it is infinite, as the cut-off is'}")
        eta = None
    measured = _measure(projector, certificate, size, bounds, radius, samples, seed, notes)
    said: dict[str, Any] = bounds | measured
    return LayerCertificate(**common, **said, paper=eta, note="; ".join(dict.fromkeys(notes)))


def _measure(
    projector: EquivariantProjector,
    certificate: Certificate,
    size: float,
    bounds: dict[str, float | None],
    radius: float | None,
    samples: int,
    seed: int,
    notes: list[str],
) -> dict[str, Any]:
    """The fields of a row that come from the errors at elements."""
    if projector.rep_in is None:
        notes.append("operators without a group: there are no elements to measure at")
        return {}
    group, norm = projector.rep_in.group, certificate.norm
    judged = bounds["posterior"] is not None and bounds["posterior_operator"] is not None
    elements = checked_elements(group, samples, seed, radius)
    if not elements:
        notes.append(f"not measured: {group!r} is not compact, so its elements cannot be sampled evenly")
        return {}
    norms = ["frobenius"]
    if min(certificate.weight.shape) <= LARGEST_SVD:
        norms.append("operator")
    worst = dict.fromkeys(norms, -1.0)
    where, holds = "", True
    for g in elements:
        for kind in norms:
            error = float(certificate.error(g, kind))
            if error > worst[kind]:
                worst[kind] = error
                where = element_text(g) if kind == "frobenius" else where
            if judged:
                holds &= error <= _least(certificate, g, kind, bounds, radius) * norm + SLACK * size
    return {
        "measured": worst["frobenius"] / norm,
        "measured_operator": worst["operator"] / norm if "operator" in worst else None,
        "worst": where,
        "elements": len(elements),
        "exhaustive": is_listed(group),
        "holds": holds if judged else None,
    }


def _least(
    certificate: Certificate, g: Any, norm: str, bounds: dict[str, float | None], radius: float | None
) -> float:
    """The least of all bounds of the error at an element, relative to |W|."""
    known = [float(certificate.bound(g, norm=norm)) / certificate.norm]
    known.append(float(certificate.bound(g, kind="prior")) / certificate.norm)
    known += [value for name in ("prior", "posterior") if (value := bounds[name]) is not None]
    if norm == "operator" and bounds["posterior_operator"] is not None:
        known.append(bounds["posterior_operator"])
    group = certificate._operators.group
    assert group is not None
    # The radius limits the Lie part alone where an element has both, as Certificate.bound says.
    angle, letters = (float(part) for part in group.lengths(g))
    length = angle if group.lie_dim else letters
    if radius is not None and length <= radius:
        known += [value for name in ("prior_at", "posterior_at") if (value := bounds[name]) is not None]
    # An infinite slope times no length at all is not a number: it bounds nothing.
    return min(value for value in known if math.isfinite(value))
