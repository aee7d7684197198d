"""The one error of image files."""

from __future__ import annotations

from reaas._errors import InvalidArgumentError


class ImageFileError(InvalidArgumentError):
    """A file has no pixels that can be meant; the message names the file, and the limit if any."""

    def __init__(self, file: object, problem: str, *, limit: str = "") -> None:
        super().__init__(f"{file} {problem}", field="IMAGE", limit=limit, got=str(file))
        self.file = str(file)
        """The file, as it was named."""
        self.problem = problem
        """What is wrong with it, without its name."""
