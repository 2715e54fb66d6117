"""What the tests of saved projectors and models share."""

import numpy as np

from equikernels.group import Representation


def rotated(rep: Representation) -> Representation:
    """The representation in a random basis, with a name of its own."""
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((rep.dim, rep.dim)))
    return Representation(rep.group, rep.irreps, q, name="rotated")


def set_in(*keys):
    """A change of a description: the last one is the new value of the field that the others lead to."""

    def change(content):
        for key in keys[:-2]:
            content = content[key]
        content[keys[-2]] = keys[-1]

    return change
