"""Values that a client sets in a recipe: TOML, counted and measured before it is parsed.

Python's TOML reader calls itself for each bracket, and so does whatever prints the value: a text of
a few kilobytes would end in a RecursionError, and a hundred thousand of them in gigabytes.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

from reaas_runtime import DomainError, Reason

MOST_OVERRIDES = 64
"""A recipe has some fifty keys."""
LONGEST_KEY = 64
"""The longest key of a recipe has 24 characters."""
LONGEST_VALUE = 1024
"""A description of some lines, or a hundred numbers."""
_MOST_BRACKETS = 16
_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)?")


def check_overrides(overrides: Mapping[str, str]) -> None:
    """Raises DomainError INVALID_RECIPE where there are too many or one is too long or deep."""
    if len(overrides) > MOST_OVERRIDES:
        raise _refused(
            "spec.overrides",
            f"spec.overrides has {len(overrides)} keys, the most is {MOST_OVERRIDES}",
            len(overrides),
            MOST_OVERRIDES,
        )
    for key, text in overrides.items():
        _check_length("an override's key", len(key), LONGEST_KEY)
        if not _KEY.fullmatch(key):
            raise _refused(
                "spec.overrides", f"unknown key {key!r}: a key is 'section.key' or 'key'", key, ""
            )
        _check_length(f"the value of {key}", len(text), LONGEST_VALUE)
        brackets = text.count("[") + text.count("{")
        if brackets > _MOST_BRACKETS:
            raise _refused(
                f"spec.overrides[{key}]",
                f"{key}: {brackets} opening brackets, the most is {_MOST_BRACKETS}",
                brackets,
                _MOST_BRACKETS,
            )


def toml_value(key: str, text: str) -> Any:
    """The value of one checked override. Raises DomainError INVALID_RECIPE."""
    field = f"spec.overrides[{key}]"
    try:
        values = tomllib.loads(f"value = {text}")
    except ValueError as error:
        message = f"{key}: {text!r} is no TOML value (text needs quotes)"
        raise _refused(field, message, text, "") from error
    if values.keys() != {"value"}:
        raise _refused(field, f"{key}: {text!r} is more than one value", text, "")
    return values["value"]


def _check_length(what: str, length: int, most: int) -> None:
    if length > most:
        raise _refused(
            "spec.overrides", f"{what} has {length} characters, the most is {most}", length, most
        )


def _refused(field: str, message: str, got: object, limit: object) -> DomainError:
    return DomainError(Reason.INVALID_RECIPE, message, field=field, got=got, limit=limit)
