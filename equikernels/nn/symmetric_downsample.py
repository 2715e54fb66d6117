"""Down-sampling whose samples lie centred on images of even size."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["SymmetricDownsample", "symmetrise_sampling"]


class SymmetricDownsample(nn.Module):
    """A convolution of stride 1, padded alike on all sides, and the mean of every s x s pixels.

    A strided convolution with an odd kernel samples even grids off their centre, so that no kernel makes it
    commute with turns. This one, on grids that s divides, commutes with turns and flips if its kernel does.
    The parameters are those of `convolution`, the same objects; their names gain "conv.".

    Args:
        convolution: with odd kernels and equal strides s; its padding is not used.

    Raises:
        TypeError: no Conv2d.
        ValueError: an even kernel, strides that differ, or another padding than with zeros.

    >>> import torch
    >>> SymmetricDownsample(nn.Conv2d(4, 8, 3, stride=2))(torch.zeros(1, 4, 6, 6)).shape
    torch.Size([1, 8, 3, 3])
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        if not isinstance(convolution, nn.Conv2d):
            raise TypeError(f"convolution: expected a Conv2d, got {type(convolution).__name__}")
        if any(size % 2 == 0 for size in convolution.kernel_size):
            raise ValueError(f"convolution: expected an odd kernel, got {convolution.kernel_size}")
        if len(set(convolution.stride)) > 1:
            raise ValueError(f"convolution: expected equal strides, got {convolution.stride}")
        if convolution.padding_mode != "zeros":
            raise ValueError(f'convolution: expected padding_mode "zeros", got {convolution.padding_mode!r}')
        height, width = (
            dilation * (size // 2)
            for dilation, size in zip(convolution.dilation, convolution.kernel_size, strict=True)
        )
        self.conv = nn.Conv2d(
            convolution.in_channels,
            convolution.out_channels,
            (convolution.kernel_size[0], convolution.kernel_size[1]),
            padding=(height, width),
            dilation=(convolution.dilation[0], convolution.dilation[1]),
            groups=convolution.groups,
            bias=convolution.bias is not None,
            device="meta",
        )
        self.conv.weight = convolution.weight
        self.conv.bias = convolution.bias
        self.pool = nn.AvgPool2d(convolution.stride[0])

    def forward(self, features: Tensor) -> Tensor:
        pooled: Tensor = self.pool(self.conv(features))
        return pooled


def symmetrise_sampling(model: nn.Module) -> list[str]:
    """Replace strided layers that sample even images off their centre by symmetric ones, in place.

    Convolutions with odd kernels and a stride become `SymmetricDownsample`, with the same parameters, and
    max-pooling in overlapping windows takes windows of its stride. That is another network: its weights are
    a start for training, not a substitute. Afterwards ``soften(model, CyclicGroup(4), softness=0,
    example_input=...)`` finds nothing there that keeps the model from being exact, if all sizes can be
    halved; layers with a stride that are none of these stay, and are still listed.

    Returns:
        The names of the layers that were replaced; none the second time.

    Raises:
        ValueError: `model` is itself such a layer, which cannot be replaced in place.

    >>> model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.MaxPool2d(3, stride=2, padding=1))
    >>> symmetrise_sampling(model), symmetrise_sampling(model)
    (['0', '1'], [])
    """
    found: dict[str, nn.Module] = {}
    made: dict[int, nn.Module] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        replacement = made.get(id(module)) or _symmetric(module)
        if replacement is not None:
            # A layer that is used twice stays one layer.
            found[name] = made[id(module)] = replacement
    if "" in found:
        raise ValueError(
            f"model: expected a module that holds the layers, got the layer {type(model).__name__}"
        )
    for name, replacement in found.items():
        model.set_submodule(name, replacement)
    return list(found)


def _symmetric(module: nn.Module) -> nn.Module | None:
    """What takes the place of a layer, if something does."""
    if isinstance(module, nn.Conv2d):
        odd = all(size % 2 for size in module.kernel_size)
        strided = module.stride[0] == module.stride[1] > 1
        return SymmetricDownsample(module) if odd and strided and module.padding_mode == "zeros" else None
    if isinstance(module, nn.MaxPool2d):
        kernel, stride = _pair(module.kernel_size), _pair(module.stride)
        overlapping = kernel != stride and stride[0] == stride[1] > 1
        return nn.MaxPool2d(stride) if overlapping and not module.return_indices else None
    return None


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
