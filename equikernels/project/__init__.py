"""Exact projectors onto softly equivariant weights, with certificates.

`EquivariantProjector(rep_in, rep_out, cutoff)` keeps the part of a weight whose equivariance constraint
is below a cut-off; `projector.certificate(weight)` bounds what remains of the error.
"""

from equikernels.project.bake import bake
from equikernels.project.certificate import Certificate, PaperEta
from equikernels.project.cutoffs import Cutoff, Hard, Smooth, Softness
from equikernels.project.projector import EquivariantProjector, InvariantProjector, constraint_spectrum
from equikernels.project.spectrum import Spectrum

__all__ = [
    "Certificate",
    "Cutoff",
    "EquivariantProjector",
    "Hard",
    "InvariantProjector",
    "PaperEta",
    "Smooth",
    "Softness",
    "Spectrum",
    "bake",
    "constraint_spectrum",
]
