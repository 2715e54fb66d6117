"""Certificates of whole models: softened parameters one by one, and networks by composition."""

from equikernels.project.certification.compose import NetworkBound, StepRow
from equikernels.project.certification.directory import certify_directory, certify_record
from equikernels.project.certification.frequency import convolution_norm
from equikernels.project.certification.layers import LayerCertificate, LayerTable, layer_certificates
from equikernels.project.certification.network import NetworkCertificate, certify

__all__ = [
    "LayerCertificate",
    "LayerTable",
    "NetworkBound",
    "NetworkCertificate",
    "StepRow",
    "certify",
    "certify_directory",
    "certify_record",
    "convolution_norm",
    "layer_certificates",
]
