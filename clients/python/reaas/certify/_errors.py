"""What can be wrong with the arguments of a certification."""

from __future__ import annotations


class InvalidArgumentError(ValueError):
    """An argument can't be used; `field` names it, the message says the value got and the limit."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
