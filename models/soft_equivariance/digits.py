"""A softly invariant classifier of handwritten digits: data, model, training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from equikernels.group import SO2, CyclicGroup, Group, Representation, pixel_grid
from equikernels.nn import SoftLinear
from equikernels.ops import rotate
from equikernels.project import Cutoff, Softness

SIZE = 8
"""Pixels along each side of an image."""

CLASSES = 10


# -- data ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class DigitSplit:
    """Images (count, 64), float32 in [0, 1], pixels row by row from the top; labels (count,), int64."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load_split(seed: int = 0, test_size: int = 400) -> DigitSplit:
    """The 1797 images of scikit-learn's `load_digits`, split with equal shares of every digit.

    Args:
        seed: of the split; equal seeds give equal splits.
        test_size: how many images are kept for testing, 10 .. 1787.

    >>> load_split().train_images.shape
    torch.Size([1397, 64])
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    if isinstance(test_size, bool) or not isinstance(test_size, int):
        raise ValueError(f"test_size must be an integer, got {test_size!r}")
    if not CLASSES <= test_size <= len(digits.data) - CLASSES:
        raise ValueError(f"test_size must lie in {CLASSES} .. {len(digits.data) - CLASSES}, got {test_size}")
    train, test, train_labels, test_labels = train_test_split(
        digits.data / 16.0, digits.target, test_size=test_size, random_state=seed, stratify=digits.target
    )
    return DigitSplit(
        torch.tensor(train, dtype=torch.float32),
        torch.tensor(train_labels, dtype=torch.int64),
        torch.tensor(test, dtype=torch.float32),
        torch.tensor(test_labels, dtype=torch.int64),
    )


def rotated_copies(group: Group, images: Tensor, seed: int = 0) -> Tensor:
    """The images (count, 64) as an ordinary user would turn them: (3, count, 64), of the same dtype.

    For C_4 the turns by 90, 180 and 270 degrees, which move whole pixels and are exact. For SO(2) every image
    of every copy is turned by its own uniformly random angle with bilinear interpolation, zero outside: this
    is not the action rho that certificates speak of.
    """
    check_images(images)
    squares = images.reshape(-1, 1, SIZE, SIZE)
    if group == CyclicGroup(4):
        turned = [torch.rot90(squares, k, (-2, -1)) for k in (1, 2, 3)]
    elif group == SO2():
        generator = torch.Generator().manual_seed(seed)
        angles = group.sample(3 * len(squares), generator=generator).reshape(3, -1)
        turned = [rotate(squares, angle) for angle in angles]
    else:
        raise ValueError(f"group must be C_4 or SO(2), got {group!r}")
    return torch.stack(turned).reshape(3, *images.shape)


# -- model ---------------------------------------------------------------------------------------------------


class InvariantClassifier(nn.Module):
    """f(x) = W2 relu(P(W1) x + c) + d: logits (..., 10) of images x (..., 64).

    Args:
        group: CyclicGroup(4), SO2() or another group that acts on an 8 x 8 pixel grid.
        cutoff: of the first layer: Hard, Smooth or Softness. A number is a softness, the share of the
            symmetry-breaking directions that it keeps: 0 is exactly invariant, 1 an ordinary network.
        hidden: number of hidden units.
        seed: of the initial parameters. Equal seeds give equal raw parameters for every group and
            cut-off, so that models differ by the projection alone.

    Raises:
        ValueError: a softness outside [0, 1], hidden < 1.
    """

    def __init__(self, group: Group, cutoff: Cutoff | float, hidden: int = 128, seed: int = 0) -> None:
        super().__init__()
        if isinstance(hidden, bool) or not isinstance(hidden, int) or hidden < 1:
            raise ValueError(f"hidden must be an integer >= 1, got {hidden!r}")
        if isinstance(cutoff, (int, float)):
            cutoff = Softness(cutoff)
        grid = pixel_grid(SIZE, group)
        # Layers draw from the global generator when they are made: a fork leaves the caller's as it was.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.first = SoftLinear(grid, group.trivial(), cutoff, channels_out=hidden)
            self.second = nn.Linear(hidden, CLASSES)

    @property
    def representation(self) -> Representation:
        """rho: how the group acts on the 64 pixels."""
        rep_in = self.first.projector.rep_in
        assert rep_in is not None
        return rep_in

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.second(functional.relu(self.first(x)))
        return logits


def train_classifier(
    model: InvariantClassifier,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int = 40,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    seed: int = 0,
    after_epoch: Callable[[float], None] | None = None,
) -> list[float]:
    """Train in place with Adam on the cross entropy (nats), the learning rate falling to zero along a cosine.

    Args:
        images, labels: (count, 64) floating and (count,) int64. They are used as they are: no augmentation.
        seed: of the order of the images; equal seeds, parameters and data give equal results.
        after_epoch: called with the mean loss of each epoch.

    Returns:
        The mean loss of each epoch.
    """
    check_images(images, labels)
    if epochs < 1:
        raise ValueError(f"epochs must be >= 1, got {epochs}")
    generator = torch.Generator().manual_seed(seed)
    batches = math.ceil(len(images) / batch_size)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    losses = []
    model.train()
    for _ in range(epochs):
        total = 0.0
        for chosen in torch.randperm(len(images), generator=generator).split(batch_size):
            loss = functional.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        losses.append(total / len(images))
        if after_epoch is not None:
            after_epoch(losses[-1])
    model.eval()
    return losses


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images (count, 64) whose largest logit is their label (count,), between 0 and 1."""
    check_images(images, labels)
    return float((model(images).argmax(-1) == labels).double().mean())


# -- checks --------------------------------------------------------------------------------------------------


def check_images(images: Tensor, labels: Tensor | None = None) -> None:
    """Raise ValueError unless images are floating (count, 64), count > 0, and labels int64 (count,)."""
    expected = f"a floating tensor (count, {SIZE * SIZE})"
    if not isinstance(images, Tensor):
        raise ValueError(f"images must be {expected}, got {type(images).__name__}")
    if not images.is_floating_point() or images.ndim != 2 or images.shape[1] != SIZE * SIZE:
        raise ValueError(f"images must be {expected}, got {images.dtype} {tuple(images.shape)}")
    if len(images) == 0:
        raise ValueError("images must not be empty")
    if labels is not None and (labels.shape != images.shape[:1] or labels.dtype != torch.int64):
        raise ValueError(f"labels must be int64 ({len(images)},), got {labels.dtype} {tuple(labels.shape)}")
