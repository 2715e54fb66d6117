"""Random changes of whole batches on their device; what is random comes from the samples' own draws.

Every function returns the changed batch and what was drawn, so that a model may be told or undo it. The same
draws under the same name give the same change again: two changes of one kind need two names.
"""

from equikernels.models.data.transforms.motions import (
    random_flip,
    random_rotation,
    random_rotation3d,
    random_shift,
)
from equikernels.models.data.transforms.windows import (
    center_crop,
    pad_to,
    paint_square,
    random_crop,
    random_square,
)

__all__ = [
    "center_crop",
    "pad_to",
    "paint_square",
    "random_crop",
    "random_flip",
    "random_rotation",
    "random_rotation3d",
    "random_shift",
    "random_square",
]
