"""Orthogonal changes of basis, applied by their structure instead of as dense matrices."""

from equikernels.ops.bases.basis import Basis
from equikernels.ops.bases.orbits import OrbitFamily, OrbitTransform
from equikernels.ops.bases.transform import orbit_transform

__all__ = ["Basis", "OrbitFamily", "OrbitTransform", "orbit_transform"]
