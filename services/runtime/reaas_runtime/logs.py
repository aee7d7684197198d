"""Structured logs on standard error: what happened, never what it happened to.

A line says types, places, ids, sizes and times. It has no local variables and no message of an
unexpected error: either may hold a caller's key, image or classifier. See docs/security.md.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import traceback
from typing import Any, Literal

import structlog

from reaas_runtime.errors import shortened

# Longer than any line that people read; what is quoted in one may come from a caller.
_LONGEST_TEXT = 500
_MOST_ITEMS = 32
_MOST_FRAMES = 12
_DEEPEST = 4

_library = structlog.get_logger("reaas.library")


def configure_logs(form: Literal["json", "console"], level: int = logging.INFO) -> None:
    """One line an event: JSON for machines, or coloured text for people.

    Takes over what libraries write by `logging`, without the values that they put in.
    """
    common: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        show_error,
        cut_values,
    ]
    last: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*common, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    root = logging.getLogger()
    root.handlers[:] = [_Forward()]
    root.setLevel(max(level, logging.WARNING))


def show_error(
    logger: Any, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Replace `exc_info` by the error's type and the places that it came through."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, tuple):
        error = error[1]
    if isinstance(error, BaseException):
        event["error"] = describe(error)
    return event


def describe(error: BaseException) -> str:
    """An error without anything that a caller may have sent: types and places, innermost last.

    Of the system's errors also what the system said, and the file.
    """
    kinds: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(kinds) < _DEEPEST:
        kind = type(cause).__name__
        if isinstance(cause, OSError) and cause.strerror:
            where = f" {cause.filename}" if isinstance(cause.filename, str) else ""
            kind += f" ({cause.strerror}{where})"
        kinds.append(kind)
        cause = cause.__cause__ or cause.__context__
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
    places = [f"{_short_path(f.filename)}:{f.lineno} {f.name}" for f in frames]
    return " from ".join(kinds) + (f" at {' > '.join(places)}" if places else "")


def cut_values(
    logger: Any, method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Cut every text and every list: a caller's name of 50 MB must not become a line of 50 MB."""
    longest = {"error": 4 * _LONGEST_TEXT}
    return {k: _cut(v, longest.get(k, _LONGEST_TEXT), _DEEPEST) for k, v in event.items()}


def watch_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Log what nobody in the event loop catches, in the same way."""

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        _library.error("asyncio", what=context.get("message"), exc_info=context.get("exception"))

    loop.set_exception_handler(handle)


class _Forward(logging.Handler):
    """Writes a library's line as one of ours: its words, without the values put into them."""

    def emit(self, record: logging.LogRecord) -> None:
        write = _library.error if record.levelno >= logging.ERROR else _library.warning
        words = str(record.msg).splitlines() or [""]
        write(record.name, what=words[0], exc_info=record.exc_info)


def _cut(value: Any, longest: int, depth: int) -> Any:
    match value:
        case str():
            return shortened(value, longest)
        case bool() | int() | float() | None:
            return value
        case list() | tuple() | set() | frozenset() if depth:
            return [_cut(item, longest, depth - 1) for item in list(value)[:_MOST_ITEMS]]
        case dict() if depth:
            items = list(value.items())[:_MOST_ITEMS]
            return {str(k): _cut(v, longest, depth - 1) for k, v in items}
    return type(value).__name__


def _short_path(path: str) -> str:
    return "/".join(path.split("/")[-2:])
