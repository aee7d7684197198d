"""The image sizes that an encoder is ready for: networks and constants, made once for each."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from reaas_bounds import CertifiedConstants, MarginMethod, Method, Network

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class SizedEncoder:
    """The encoder on images of one size: its network, constants, and how long a step takes."""

    network: Network
    constants: CertifiedConstants
    step_seconds: dict[Method | MarginMethod, float] = field(default_factory=dict)
    """About the longest step of late searches by each method."""


class Sizes:
    """At most `most` sizes [height, width, channels] beside the `own` one. Thread-safe.

    The least used size goes first, of the client that holds most of them: one that asks about ever
    new sizes costs nobody else theirs. A size belongs to the client that used it last.
    """

    def __init__(self, own: Shape, make: Callable[[Shape], SizedEncoder], most: int) -> None:
        self._own, self._make, self._most = own, make, most
        self._known: OrderedDict[Shape, SizedEncoder] = OrderedDict()
        self._holder: dict[Shape, str] = {}
        self._making: dict[Shape, threading.Lock] = {}
        self._lock = threading.Lock()

    def known(self, shape: Shape, client: str | None = None) -> SizedEncoder | None:
        """What was made for `shape`, if it was; `client`: who uses it now."""
        with self._lock:
            found = self._known.get(shape)
            if found is not None and client is not None:
                self._known.move_to_end(shape)
                self._holder[shape] = client
            return found

    def at(self, shape: Shape, client: str | None = None) -> SizedEncoder:
        """The same, made now if it was not: seconds. Others that want it meanwhile wait for it."""
        with self._lock:
            making = self._making.setdefault(shape, threading.Lock())
        with making:
            found = self.known(shape, client)
            if found is None:
                found = self._make(shape)
                self._keep(shape, client or "", found)
        with self._lock:
            self._making.pop(shape, None)
        return found

    def _keep(self, shape: Shape, client: str, made: SizedEncoder) -> None:
        with self._lock:
            self._known[shape], self._holder[shape] = made, client
            others = [other for other in self._known if other not in (self._own, shape)]
            if len(others) >= self._most:
                held = Counter(self._holder[other] for other in [*others, shape])
                most = max(held.values())
                gone = next((o for o in others if held[self._holder[o]] == most), others[0])
                del self._known[gone], self._holder[gone]
