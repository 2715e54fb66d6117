"""Data for all models: files of many formats as batches of tensors, random numbers that belong to samples."""

from equikernels.models.data.draws import SampleDraws, epoch_order

__all__ = ["SampleDraws", "epoch_order"]
