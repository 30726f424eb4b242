"""Data sets on disk, of any known layout, as one list of studies."""

from train.sets.findings import Finding
from train.sets.reading import DataSet, Heldout, read

__all__ = ["DataSet", "Finding", "Heldout", "read"]
