"""The HTML report of a run: one file, plots inside, nothing fetched."""

from dukou.lifecycle.report.page import write_report

__all__ = ["write_report"]
