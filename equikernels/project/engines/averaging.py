"""Permutations of a finite group: responses as weighted averages over the group, by index maps alone.

The projector onto all copies of an irrep nu among the linear maps is
(d_nu / t_nu) mean over g of chi_nu(g) (W -> rho_out(g) W rho_in(g)^-1), so a response f is the average with
the class function phi(g) = (1 / |G|) sum over nu of f(sigma_nu) (d_nu / t_nu) chi_nu(g). On permutations
each term is W with rows and columns in another order: no basis and no matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from equikernels.group import Group, PermutationRepresentation, Representation
from equikernels.ops import IndexMaps, group_average, group_correlate
from equikernels.project.engines.engine import BlockEngine, Engine, Factors, float64
from equikernels.project.engines.problems import central_value, character
from equikernels.project.spectrum import Spectrum, spectrum_of

LARGEST_ORDER = 64
"""Groups up to this order are averaged over; beyond, a change of basis costs less."""


def index_maps(rep: Representation) -> np.ndarray | None:
    """Index maps (order, dim) of a representation that permutes coordinates, None if it does not."""
    if isinstance(rep, PermutationRepresentation):
        return rep.sources
    order = rep.group.order
    trivial = rep.group.trivial().irreps[0][0]
    if order is not None and all(label == trivial for label, _ in rep.irreps):
        return np.tile(np.arange(rep.dim), (order, 1))
    return None


def can_average(rep_in: Representation, rep_out: Representation) -> bool:
    """Whether both representations permute, under a group small enough."""
    order = rep_in.group.order
    if order is None or order > LARGEST_ORDER:
        return False
    return index_maps(rep_in) is not None and index_maps(rep_out) is not None


class AveragingEngine(BlockEngine):
    """Responses of a constraint closed under conjugation, between permutation representations.

    Args:
        rep_out, rep_in: representations of one finite group that permute coordinates.
        explicit: makes an engine with bases.
    """

    def __init__(
        self, rep_out: Representation, rep_in: Representation, explicit: Callable[[], Engine]
    ) -> None:
        group = rep_in.group
        out, inn = index_maps(rep_out), index_maps(rep_in)
        assert out is not None
        assert inn is not None
        self.m, self.n = rep_out.dim, rep_in.dim
        self._explicit = explicit
        self._maps = IndexMaps(torch.tensor(out), torch.tensor(inn))
        labels = [rep.irreps[0][0] for rep in group.irreps()]
        characters = [character(group, label) for label in labels]
        values = np.stack([chi.values for chi in characters])
        weights = np.array([chi.weight for chi in characters])
        fixed = [(maps == np.arange(maps.shape[1])).sum(axis=1) for maps in (out, inn)]
        counts = weights * (values * (fixed[0] * fixed[1])).mean(axis=1)
        present = np.flatnonzero(counts > 0.5)
        self._spectrum, index, self._slopes = clusters_of_irreps(
            group, [labels[k] for k in present], counts[present].round()
        )
        # phi(g) = sum over clusters of f times this table (order, clusters).
        parts = (weights[:, None] * values / values.shape[1])[present]
        summed = np.zeros((self._spectrum.values.size, parts.shape[1]))
        np.add.at(summed, index, parts)
        self._table = float64(summed.T)

    @cached_property
    def in_bases(self) -> Engine:
        """The same constraint in bases of irreps."""
        return self._explicit()

    @property
    def spectrum(self) -> Spectrum:
        return self._spectrum

    @property
    def lie_slopes(self) -> np.ndarray:
        return np.zeros_like(self._slopes)

    @property
    def discrete_slopes(self) -> np.ndarray:
        return self._slopes

    def factors(self, response: Tensor) -> Factors:
        weights = self._table @ response
        # Characters cancel to rounding: what is left of a weight that vanishes would cost a term each.
        return (torch.where(weights.abs() < 1e-14, 0.0, weights),)

    def apply(self, w: Tensor, factors: Factors) -> Tensor:
        (weights,) = factors
        assert weights is not None
        return group_average(w, self._maps, weights)

    def energies(self, w: Tensor) -> np.ndarray:
        entries = w.detach().double().cpu()
        overlaps = group_correlate(entries, entries, self._maps)
        return np.asarray((self._table.mT @ overlaps).clamp(min=0).numpy())

    def basis(self, kept: np.ndarray) -> np.ndarray:
        return self.in_bases.basis(kept)


def clusters_of_irreps(
    group: Group, labels: list[object], counts: np.ndarray
) -> tuple[Spectrum, np.ndarray, np.ndarray]:
    """The spectrum of irreps with `counts` dimensions each, their clusters, the clusters' discrete slopes."""
    values = np.array([central_value(group, label) for label in labels]).reshape(-1, 3)
    spectrum, index = spectrum_of(values[:, 0], counts, 1.0)
    slopes = np.zeros(spectrum.values.size)
    np.maximum.at(slopes, index, values[:, 2])
    return spectrum, index, slopes
