"""Reports that a clinician can read: of a training run, or of a model that was evaluated."""

from train.report.training import write
from train.report.write import SCHEMA, Report, write_report

__all__ = ["SCHEMA", "Report", "write", "write_report"]
