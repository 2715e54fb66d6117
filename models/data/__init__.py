"""Data for all models: files of many formats as batches of tensors, random numbers that belong to samples."""

from equikernels.models.data.columns import Field
from equikernels.models.data.dataset import Dataset
from equikernels.models.data.draws import SampleDraws, epoch_order
from equikernels.models.data.errors import DataError
from equikernels.models.data.loading import load_dataset

__all__ = ["DataError", "Dataset", "Field", "SampleDraws", "epoch_order", "load_dataset"]
