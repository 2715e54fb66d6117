"""Exact projectors onto softly equivariant weights, with certificates.

`EquivariantProjector(rep_in, rep_out, cutoff)` keeps the part of a weight whose equivariance constraint
is below a cut-off; `projector.certificate(weight)` bounds what remains of the error.
"""

from equikernels.project.adapting import (
    AlreadySoftened,
    LayerRow,
    LimitRow,
    Plan,
    Rule,
    Site,
    SoftenReport,
    attention,
    check_soften_metadata,
    default_rules,
    is_softened,
    kernels,
    leave,
    linear,
    raw_parameter,
    soften,
    soften_metadata,
    tokens,
)
from equikernels.project.bake import bake
from equikernels.project.certificate import Certificate, PaperEta
from equikernels.project.certification import (
    LayerCertificate,
    LayerTable,
    NetworkBound,
    NetworkCertificate,
    certify,
    certify_directory,
    convolution_norm,
    layer_certificates,
)
from equikernels.project.cutoff_for import cutoff_for
from equikernels.project.cutoffs import BlockSmooth, Cutoff, Hard, ReleasedSmooth, Smooth, Softness
from equikernels.project.initial_gain import strict_gain
from equikernels.project.learnable import LearnableSmooth
from equikernels.project.projector import EquivariantProjector, InvariantProjector, constraint_spectrum
from equikernels.project.saving import (
    SavedFileError,
    load_projector,
    load_softened,
    save_projector,
    save_softened,
)
from equikernels.project.spectrum import Spectrum
from equikernels.project.sweeps import SweepProjector

__all__ = [
    "AlreadySoftened",
    "BlockSmooth",
    "Certificate",
    "Cutoff",
    "EquivariantProjector",
    "Hard",
    "InvariantProjector",
    "LayerCertificate",
    "LayerRow",
    "LayerTable",
    "LearnableSmooth",
    "LimitRow",
    "NetworkBound",
    "NetworkCertificate",
    "PaperEta",
    "Plan",
    "ReleasedSmooth",
    "Rule",
    "SavedFileError",
    "Site",
    "Smooth",
    "SoftenReport",
    "Softness",
    "Spectrum",
    "SweepProjector",
    "attention",
    "bake",
    "certify",
    "certify_directory",
    "check_soften_metadata",
    "constraint_spectrum",
    "convolution_norm",
    "cutoff_for",
    "default_rules",
    "is_softened",
    "kernels",
    "layer_certificates",
    "leave",
    "linear",
    "load_projector",
    "load_softened",
    "raw_parameter",
    "save_projector",
    "save_softened",
    "soften",
    "soften_metadata",
    "strict_gain",
    "tokens",
]
