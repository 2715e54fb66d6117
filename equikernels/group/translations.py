"""Cyclic translations of a grid. An element is a pair (rows down, columns to the right) modulo the size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from scipy.special import cosdg, sindg
from torch import Tensor

from equikernels.group import acting
from equikernels.group.compiling import constant_of_graphs
from equikernels.group.finite import FiniteGroup, integer_tensor
from equikernels.group.group import Element, Group
from equikernels.group.representation import Representation, frozen
from equikernels.group.so2 import check_frequency

Frequencies = tuple[int, int]


@lru_cache(maxsize=16)
def waves(period: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine (period,) of the multiples of 2 pi / period; quarter turns are exact."""
    degrees = 360.0 * np.arange(period) / period
    cosine, sine = np.asarray(cosdg(degrees)), np.asarray(sindg(degrees))
    for wave in (cosine, sine):
        wave.setflags(write=False)
    return cosine, sine


# Plain numbers, found outside of the graph: torch.compile cannot trace SciPy.
@constant_of_graphs
def plain_waves(period: int) -> list[list[float]]:
    """`waves` as lists."""
    return [wave.tolist() for wave in waves(period)]


@dataclass(frozen=True, init=False)
class GridTranslations(FiniteGroup):
    """The cyclic translations of an H x W grid; GridTranslations(N) is N x N.

    Elements are integers (..., 2) modulo (H, W), tensors or nested sequences: (a, b) moves content a rows
    down and b columns to the right, torch.roll(image, (a, b), (-2, -1)). Generators: (1, 0) and (0, 1).

    Irreps are labelled by pairs of frequencies (k1, k2) modulo (H, W) up to a common sign; of (k1, k2)
    and (-k1, -k2) the smaller pair in 0 .. H-1, 0 .. W-1 is the normal form. rho(a, b) is the plane rotation
    by 2 pi (k1 a / H + k2 b / W), or the sign cos of it where both frequencies are 0 or half the size.

    >>> G = GridTranslations(3, 4)
    >>> G.compose((2, 3), (2, 2)).tolist(), G.inverse((1, 1)).tolist()
    ([1, 1], [2, 3])
    >>> G.check_label((2, 3)), G.irrep((0, 2)).dim
    ((1, 1), 1)
    """

    height: int
    width: int

    def __init__(self, height: int, width: int | None = None) -> None:
        width = height if width is None else width
        for name, side in (("height", height), ("width", width)):
            if isinstance(side, bool) or not isinstance(side, (int, np.integer)) or side < 1:
                raise ValueError(f"{name} must be an integer >= 1, got {side!r}")
            object.__setattr__(self, name, int(side))

    def __repr__(self) -> str:
        return f"Translations_{self.height}x{self.width}"

    @property
    def order(self) -> int:
        return self.height * self.width

    @property
    def identity(self) -> Tensor:
        return torch.zeros(2, dtype=torch.int64)

    def _size(self, device: torch.device) -> Tensor:
        return torch.tensor([self.height, self.width], device=device)

    def check(self, g: Any) -> Tensor:
        element = integer_tensor(g, f"elements of {self!r} are integers (rows, columns)")
        if element.ndim == 0 or element.shape[-1] != 2:
            raise ValueError(f"elements of {self!r} have shape (..., 2), got {tuple(element.shape)}")
        return torch.remainder(element, self._size(element.device))

    def batch_shape(self, g: Element) -> torch.Size:
        return torch.Size(g.shape[:-1])

    def unbind(self, g: Element) -> list[Element]:
        return list(g.reshape(-1, 2))

    def compose(self, g: Any, h: Any) -> Tensor:
        return self.check(self.check(g) + self.check(h))

    def inverse(self, g: Any) -> Tensor:
        return self.check(-self.check(g))

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        rows, columns = (
            torch.randint(side, (n,), generator=generator, dtype=dtype or torch.int64, device=device)
            for side in (self.height, self.width)
        )
        return torch.stack([rows, columns], dim=-1)

    def elements(self) -> Tensor:
        """All elements (H W, 2), columns fastest: the translation that carries pixel 0 to each pixel."""
        return torch.cartesian_prod(torch.arange(self.height), torch.arange(self.width)).reshape(-1, 2)

    def act(self, z: Tensor, g: Any, *, method: str = "auto", padding: str | None = None) -> Tensor:
        """Images (N, C, ..., H, W) of the grid's own size, shifted round its edges as by torch.roll."""
        acting.check_images(self, z)
        acting.check_method(self, method, padding, ("auto", "exact"), exact=True)
        if z.shape[-2:] != (self.height, self.width):
            raise ValueError(f"z: {self!r} acts on images of its size, got {tuple(z.shape[-2:])}")
        element = acting.on_device(self, g, z)
        shifts = element.expand(z.shape[0], 2) if element.dim() == 1 else element
        if shifts.shape != (z.shape[0], 2):
            raise ValueError(
                f"g: expected one shift (2,) or one per sample ({z.shape[0]}, 2), got {tuple(shifts.shape)}"
            )
        rows, columns = (
            torch.remainder(torch.arange(side, device=z.device) - shifts[:, axis, None], side)
            for axis, side in enumerate((self.height, self.width))
        )
        images = z.reshape(z.shape[0], -1, self.height, self.width)
        samples = torch.arange(z.shape[0], device=z.device)[:, None, None, None]
        channels = torch.arange(images.shape[1], device=z.device)[:, None, None]
        moved = images[samples, channels, rows[:, None, :, None], columns[:, None, None, :]]
        return moved.view(z.shape)

    def word_length(self, g: Any) -> Tensor:
        """min(a, H - a) + min(b, W - b): steps of one pixel, the shorter way round."""
        element = self.check(g)
        return torch.minimum(element, self._size(element.device) - element).sum(dim=-1)

    @property
    def diameter(self) -> float:
        return float(self.height // 2 + self.width // 2)

    @property
    def discrete_elements(self) -> tuple[Any, ...]:
        # Along a side of one pixel the step is the identity, which constrains nothing.
        steps = (((1, 0), self.height), ((0, 1), self.width))
        return tuple(step for step, side in steps if side > 1) or ((0, 0),)

    def conjugates(self) -> tuple[Element, ...]:
        """The generators themselves: the group is commutative."""
        return self.discrete_elements

    def check_label(self, label: Any) -> Frequencies:
        if not isinstance(label, tuple) or len(label) != 2:
            raise ValueError(f"label must be a pair of frequencies (k1, k2) for {self!r}, got {label!r}")
        first, second = (check_frequency(k) for k in label)
        return min(
            (first % self.height, second % self.width),
            (-first % self.height, -second % self.width),
        )

    def irrep_dim(self, label: Frequencies) -> int:
        return 1 if 2 * label[0] % self.height == 0 and 2 * label[1] % self.width == 0 else 2

    def irrep_matrix(self, label: Frequencies, g: Element, dtype: torch.dtype) -> Tensor:
        phase = (label[0] * g[..., 0] * self.width + label[1] * g[..., 1] * self.height) % self.order
        c, s = (torch.tensor(wave, dtype=dtype, device=g.device)[phase] for wave in plain_waves(self.order))
        if self.irrep_dim(label) == 1:
            return c[..., None, None]
        return torch.stack([c, -s, s, c], dim=-1).reshape(*c.shape, 2, 2)

    def tensor_candidates(self, left: Frequencies, right: Frequencies) -> tuple[Frequencies, ...]:
        """The sum and the difference of the frequencies."""
        (a, b), (c, d) = left, right
        return tuple(sorted({self.check_label((a + c, b + d)), self.check_label((a - c, b - d))}))

    def restrict_irrep(self, label: Frequencies, subgroup: Group) -> tuple[tuple[Any, ...], np.ndarray]:
        """To GridTranslations(h, w), h dividing H and w dividing W: steps of H/h rows and W/w columns."""
        if (
            not isinstance(subgroup, GridTranslations)
            or self.height % subgroup.height
            or self.width % subgroup.width
        ):
            raise ValueError(f"{subgroup!r} is not a subgroup of {self!r} in the standard embedding")
        folded = subgroup.check_label(label)
        d = self.irrep_dim(label)
        if subgroup.irrep_dim(folded) == 1:
            return (folded,) * d, np.eye(d)
        # The normal form may be the opposite frequency: the same plane with its second axis reversed.
        kept = folded == (label[0] % subgroup.height, label[1] % subgroup.width)
        return (folded,), np.eye(2) if kept else np.diag([1.0, -1.0])

    def _labels(self) -> list[Frequencies]:
        return sorted({self.check_label(tuple(pair)) for pair in self.elements().tolist()})

    def irreps(self) -> tuple[Representation, ...]:
        return tuple(self.irrep(label) for label in self._labels())

    def trivial(self) -> Representation:
        return self.irrep((0, 0))

    def defining(self) -> Representation:
        """The pixels: `regular`."""
        return self.regular()

    def regular(self) -> Representation:
        """The pixels of the grid, index row * W + column: exact index maps rho(g) e_h = e_(g h)."""
        return TranslatedPixels(self)


class TranslatedPixels(Representation):
    """The pixels of a grid under cyclic translations; the normal form is the real Fourier transform."""

    def __init__(self, group: GridTranslations) -> None:
        self._init(group, group.order, "pixels")

    # The Fourier basis is a dense matrix (H W, H W): made only when asked for.

    @cached_property
    def _labels(self) -> list[Frequencies]:
        assert isinstance(self.group, GridTranslations)
        return self.group._labels()

    @property
    def irreps(self) -> tuple[tuple[Frequencies, int], ...]:
        return tuple((label, 1) for label in self._labels)

    @cached_property
    def change_of_basis(self) -> np.ndarray:
        group = self.group
        assert isinstance(group, GridTranslations)
        row, column = group.elements().numpy().T
        cosine, sine = waves(group.order)
        columns = []
        for label in self._labels:
            phase = (label[0] * row * group.width + label[1] * column * group.height) % group.order
            # rho(g) turns (cosine, sine) by the phase of g: the first axis moves towards the second.
            modes = [cosine[phase], sine[phase]][: group.irrep_dim(label)]
            columns += [mode * math.sqrt(len(modes) / group.order) for mode in modes]
        return frozen(np.stack(columns, axis=1))

    @property
    def _basis(self) -> np.ndarray:
        return self.change_of_basis

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        return ("translated pixels", self.group)

    def _matrix(self, g: Element, dtype: torch.dtype) -> Tensor:
        group = self.group
        assert isinstance(group, GridTranslations)
        images = group.compose(g[..., None, :], group.elements().to(g.device))
        target = images[..., 0] * group.width + images[..., 1]
        matrices: Tensor = torch.nn.functional.one_hot(target, self.dim).mT
        return matrices.to(dtype)
