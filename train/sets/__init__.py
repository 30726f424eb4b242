"""Data sets on disk, of any known layout, as one list of studies."""

from train.sets.reading import DataSet, Finding, Heldout, read

__all__ = ["DataSet", "Finding", "Heldout", "read"]
