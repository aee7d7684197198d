"""Labelled images from their published files, for training and testing downstream classifiers."""

from __future__ import annotations

from ._dataset import Dataset, DatasetError
from ._load import DIRECTORY_VARIABLE, NAMES, load

__all__ = ["DIRECTORY_VARIABLE", "NAMES", "Dataset", "DatasetError", "load"]
