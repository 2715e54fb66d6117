"""Rotations that lose nothing: orthogonal, so that turning back is the inverse to rounding.

`shear_rotate` needs no set-up and takes any image; `spectral_rotate` keeps the whole group law and needs a
basis that is made once for each size. Both ring at sharp edges, as every orthogonal rotation of pixels does.
"""

from equikernels.ops import backends
from equikernels.ops.fourier.shear import shear_rotate
from equikernels.ops.fourier.spectral import spectral_rotate

__all__ = ["shear_rotate", "spectral_rotate"]

for _operation in __all__:
    backends.register(backends.Backend(_operation, "torch", ("any",)))
    backends.register(backends.Backend(_operation, "reference", ("any",)))
