"""Sampling of images and volumes through one affine map per sample: the grid is never built."""

from __future__ import annotations

from torch import Tensor

from equikernels.ops import backends
from equikernels.ops.arguments import check_data, per_sample
from equikernels.ops.registration import register_kernels
from equikernels.ops.sampling.autograd import sample
from equikernels.ops.sampling.checks import check_backend, check_options
from equikernels.ops.sampling.reference import sample_reference

__all__ = ["affine_sample"]

register_kernels("affine_sample")


def affine_sample(
    z: Tensor,
    matrix: Tensor,
    *,
    mode: str = "bilinear",
    padding: str = "zeros",
    backend: str | None = None,
) -> Tensor:
    """Sample every image or volume of a batch through its own affine map, given in pixels.

    With p = (x, y), or (x, y, z) for volumes, the place of an output pixel counted in pixels from the centre,
    right, down and deep, and M a sample's matrix,

        out[n, c, p] = z[n, c] at the place M_n [p; 1],    M [p; 1] = M[:, :d] p + M[:, d],

    interpolated. The centre is ((W - 1)/2, (H - 1)/2[, (D - 1)/2]) counted from the first pixel. So M takes
    places of the *output* to places of the *input*, the inverse of what happens to the picture. This is
    ``torch.nn.functional.affine_grid`` and ``grid_sample`` with ``align_corners=False`` in one pass, where
    torch's matrix, which counts in half widths and half heights, is M with row a divided and column b
    multiplied by their half sizes:

        theta[a, b] = M[a, b] S_b / S_a,    theta[a, d] = 2 M[a, d] / S_a,    S = (W, H[, D]).

    Args:
        z: images (N, C, H, W), d = 2, or volumes (N, C, D, H, W), d = 3; float32, float64, bfloat16 or
            float16, with any strides.
        matrix: the maps, (N, d, d + 1), of any floating dtype, on the device of `z`; or (d, d + 1), one for
            all samples. Rows and columns are x, y[, z]; the last column is in pixels.
        mode: "nearest" (ties to the even pixel), "bilinear" (trilinear for volumes) or "bicubic" (images
            only; Keys' kernel with slope -0.75, as in torch).
        padding: what lies outside: "zeros"; "border", the nearest pixel of the border; or "reflection", the
            image mirrored at the outer edges of its border pixels, again and again.
        backend: implementation to use, see :mod:`equikernels.ops.backends`.

    Returns:
        A contiguous tensor with the shape and dtype of `z`. Coordinates and weights are float32 (float64 for
        float64 data) whatever the dtype of the data; `matrix` is first converted to that dtype. A sample
        whose matrix then has an entry that is not finite is NaN everywhere, and so are its gradients. Finite
        entries may be as large as they like: places beyond all numbers are zero for "zeros", and a pixel of
        the border or NaN for the other two. With "zeros" nothing outside is read, so that an infinite pixel
        shows only where it is a tap.

    Gradients go to `z` and to `matrix` (in its own dtype), to any order and in forward mode. The derivative
    by the matrix is that of the interpolated surface, which jumps for "bilinear" where a place's taps change;
    for "nearest" it is zero. Results are deterministic and do not depend on the number of threads. Autocast
    leaves dtypes alone. Inside torch.compile forward mode raises NotImplementedError, and torch.func.grad
    raises. In a forked child process set one thread before calling (``torch.set_num_threads(1)``).

    Raises:
        TypeError: `z` or `matrix` is of a wrong type or dtype.
        ValueError: a wrong shape, devices that differ, an unknown option, "bicubic" for volumes, or a backend
            that cannot run here.

    >>> import torch
    >>> image = torch.arange(9.0).view(1, 1, 3, 3)
    >>> one_to_the_right = torch.tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    >>> affine_sample(image, one_to_the_right)
    tensor([[[[0., 0., 1.],
              [0., 3., 4.],
              [0., 6., 7.]]]])
    """
    check_data("z", z, (4, 5))
    dims = z.dim() - 2
    check_options(mode, padding, dims)
    matrix = per_sample("matrix", "matrix", matrix, (dims, dims + 1), z)
    return run("affine_sample", z, matrix, mode, padding, backend)


def run(operation: str, z: Tensor, matrix: Tensor, mode: str, padding: str, backend: str | None) -> Tensor:
    """The samples by the backend of an operation; arguments as the checks leave them."""
    chosen = backends.choose(operation, z.device.type, backend)
    if chosen == "reference":
        return sample_reference(z, matrix, mode, padding)
    check_backend(operation, chosen, mode, padding)
    return sample(z, matrix, mode, padding, chosen)
