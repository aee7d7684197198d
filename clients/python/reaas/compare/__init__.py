"""Comparison of the schemes over real services: report, table and pictures.

`run` makes a whole comparison; `run_reaas_row` and `run_seaas_row` are its parts, for others.

Needs the extra `compare` (`pip install 'reaas[compare]'`).
"""

from reaas.compare._bench import Bench, Connect
from reaas.compare._break_even import BreakEven, CurvePoint, break_even, break_even_budget
from reaas.compare._config import CompareConfig
from reaas.compare._meters import MeterMismatchError, Meters
from reaas.compare._plots import write_plots
from reaas.compare._push import PushError, Quality, push, qualities
from reaas.compare._reaas_rows import Kind, Outcome, run_reaas_row
from reaas.compare._report import Record, Report, Row, Smoothing, Twin
from reaas.compare._run import client_ids, machine, run
from reaas.compare._seaas_rows import SeaasOutcome, mark_best, run_seaas_row, run_seaas_rows
from reaas.compare._table import plain_table, render

__all__ = [
    "Bench",
    "BreakEven",
    "CompareConfig",
    "Connect",
    "CurvePoint",
    "Kind",
    "MeterMismatchError",
    "Meters",
    "Outcome",
    "PushError",
    "Quality",
    "Record",
    "Report",
    "Row",
    "SeaasOutcome",
    "Smoothing",
    "Twin",
    "break_even",
    "break_even_budget",
    "client_ids",
    "machine",
    "mark_best",
    "plain_table",
    "push",
    "qualities",
    "render",
    "run",
    "run_reaas_row",
    "run_seaas_row",
    "run_seaas_rows",
    "write_plots",
]
