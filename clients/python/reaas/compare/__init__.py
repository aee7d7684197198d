"""Comparison of the schemes over real services: report, table and pictures.

Needs the extra `compare` (`pip install 'reaas[compare]'`).
"""

from reaas.compare._bench import Connect
from reaas.compare._break_even import BreakEven, CurvePoint, break_even_budget
from reaas.compare._config import CompareConfig
from reaas.compare._meters import MeterMismatchError, Meters
from reaas.compare._plots import write_plots
from reaas.compare._push import PushError, Quality, push, qualities
from reaas.compare._report import Record, Report, Row, Smoothing, Twin
from reaas.compare._run import client_ids, run
from reaas.compare._table import render

__all__ = [
    "BreakEven",
    "CompareConfig",
    "Connect",
    "CurvePoint",
    "MeterMismatchError",
    "Meters",
    "PushError",
    "Quality",
    "Record",
    "Report",
    "Row",
    "Smoothing",
    "Twin",
    "break_even_budget",
    "client_ids",
    "push",
    "qualities",
    "render",
    "run",
    "write_plots",
]
