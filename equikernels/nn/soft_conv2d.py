"""A convolution whose kernel breaks a symmetry by no more than a cut-off allows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from equikernels.group import GridTranslations, Group, Representation, pixel_grid
from equikernels.nn.soft_layer import SoftLayer
from equikernels.nn.soft_linear import check_channels
from equikernels.project import Cutoff

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class SoftConv2d(SoftLayer):
    """A convolution between fields that turn with the image, with a softly equivariant kernel.

    A field has a representation at every pixel: turning an image by g turns its positions and multiplies
    the channels of each field by rho(g). A kernel K(p) commutes with that if
    K(g p) = rho_out(g) K(p) rho_in(g)^-1, that is, if it is equivariant as a linear map from one patch, with
    the representation rho_in x grid, to one pixel. The layer's weight (C_out * m, C_in * n, k, k) passes the
    projector of these maps; trivial representations give isotropic kernels, softness 1 a plain convolution.

    The guarantee of `certificate` is of one patch and does not transfer to images as it stands. A strict
    layer commutes with turns that carry the image's pixels, its padding and the places of its stride to
    themselves; by other angles it turns as well as its few pixels allow.

    Args:
        rep_in, rep_out: representations of one planar group on the channels of a field, n and m of them.
        kernel_size: k x k pixels, k >= 1.
        cutoff: Hard, Smooth or Softness; or LearnableSmooth, whose parameters become the layer's.
        channels_in, channels_out: numbers of fields.
        stride, padding, dilation: as in torch.nn.Conv2d, integers; an even stride or kernel on an even image
            moves the centre by half a pixel.
        padding_mode: "zeros", "reflect", "replicate" or "circular".
        bias: whether there is a bias (C_out * m,); it passes the invariant projector of rep_out.
        parameter: "raw" or "schur", as in SoftLinear.
        initial: "raw" or "norm", as in SoftLinear.

    Raises:
        TypeError, ValueError: naming the argument, what was expected and what came.

    >>> from equikernels.group import CyclicGroup
    >>> from equikernels.project import Softness
    >>> group = CyclicGroup(4)
    >>> lift = SoftConv2d(group.trivial(), group.regular(), 3, Softness(0), channels_out=8, padding=1)
    >>> lift(torch.zeros(1, 1, 9, 9)).shape, lift.projector.dimension
    (torch.Size([1, 32, 9, 9]), 9)
    """

    def __init__(
        self,
        rep_in: Representation,
        rep_out: Representation,
        kernel_size: int,
        cutoff: Cutoff,
        channels_in: int = 1,
        channels_out: int = 1,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        padding_mode: str = "zeros",
        bias: bool = True,
        parameter: str = "raw",
        initial: str = "raw",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_channels(
            kernel_size=kernel_size,
            channels_in=channels_in,
            channels_out=channels_out,
            stride=stride,
            dilation=dilation,
        )
        if isinstance(padding, bool) or not isinstance(padding, int) or padding < 0:
            raise ValueError(f"padding must be an integer >= 0, got {padding!r}")
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {', '.join(PADDING_MODES)}, got {padding_mode!r}")
        for name, rep in (("rep_in", rep_in), ("rep_out", rep_out)):
            if not isinstance(rep, Representation):
                raise TypeError(f"{name} must be a Representation, got {type(rep).__name__}")
        patch = rep_in @ _patch(kernel_size, rep_in.group)
        shape = (channels_out * rep_out.dim, channels_in * rep_in.dim, kernel_size, kernel_size)
        super().__init__(patch, rep_out, cutoff, shape, bias, parameter, initial, device, dtype)
        self.out_channels, self.in_channels = shape[:2]
        self.kernel_size, self.stride, self.padding, self.dilation = kernel_size, stride, padding, dilation
        self.padding_mode = padding_mode

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C_in * n, H, W) or (C_in * n, H, W) to (N, C_out * m, H', W')."""
        if x.ndim not in (3, 4) or x.shape[-3] != self.in_channels:
            raise ValueError(f"x must have shape (N, {self.in_channels}, H, W), got {tuple(x.shape)}")
        padding = self.padding
        if self.padding_mode != "zeros" and padding:
            x = functional.pad(x, (padding,) * 4, mode=self.padding_mode)
            padding = 0
        return functional.conv2d(
            x, self.projected_weight, self.projected_bias, self.stride, padding, self.dilation
        )

    def baked(self) -> nn.Conv2d:
        """A plain torch.nn.Conv2d with the projected weight and bias."""
        plain = nn.utils.skip_init(
            nn.Conv2d,
            self.in_channels,
            self.out_channels,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            padding_mode=self.padding_mode,
            bias=self.bias is not None,
            device=self._parameter.device,
            dtype=self._parameter.dtype,
        )
        with torch.no_grad():
            plain.weight.copy_(self.projected_weight)
            bias = self.projected_bias
            if bias is not None and plain.bias is not None:
                plain.bias.copy_(bias)
        return plain.train(self.training)

    def extra_repr(self) -> str:
        sizes = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        return f"{super().extra_repr()}, {sizes}, stride={self.stride}, padding={self.padding}"


def _patch(kernel_size: int, group: Group) -> Representation:
    """How the group acts on the pixels of a kernel."""
    if isinstance(group, GridTranslations):
        raise ValueError(
            "rep_in must be of a group of turns or flips: convolutions commute with translations"
        )
    try:
        return pixel_grid(kernel_size, group)
    except ValueError as error:
        raise ValueError(f"kernel_size {kernel_size} does not fit {group!r}: {error}") from error
