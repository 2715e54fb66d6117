"""Assertions for users' own tests of equivariance.

`assert_representation(rep)` checks the laws of a representation, `assert_equivariant(f, x, act_in, act_out)`
that a function or a module commutes with a group; both name the law that fails, where and by how much.

>>> import torch
>>> from equikernels.group import SO3
>>> vectors = SO3().defining()
>>> assert_representation(vectors)
>>> points = torch.randn(10, 3, dtype=torch.float64)
>>> assert_equivariant(lambda x: x * x.norm(dim=-1, keepdim=True), points, vectors, vectors)

`equikernels.testing.strategies` holds hypothesis strategies for groups, elements and representations; it
needs hypothesis, the assertions here do not.
"""

from equikernels.testing.assertions import assert_equivariant, assert_representation
from equikernels.testing.tolerances import TOLERANCES, Tolerance, tolerance

__all__ = ["TOLERANCES", "Tolerance", "assert_equivariant", "assert_representation", "tolerance"]
