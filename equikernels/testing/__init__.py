"""Assertions for users' own tests of equivariance.

`equikernels.testing.strategies` holds hypothesis strategies for groups, elements and representations; it
needs hypothesis, the assertions here do not.
"""

from equikernels.testing.assertions import assert_equivariant, assert_representation
from equikernels.testing.tolerances import TOLERANCES, Tolerance, tolerance

__all__ = ["TOLERANCES", "Tolerance", "assert_equivariant", "assert_representation", "tolerance"]
