"""What Client and AsyncClient share: where the services are, who calls, what was used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from reaas._channel import TLS, ChannelOptions, Endpoint, check_api_key
from reaas._errors import CLOSED, InvalidArgumentError, ReaasError
from reaas._ledger import Ledger, LedgerKey, Usage
from reaas._model import Phase, Scheme, Service, member
from reaas._protocol import Api, Expected, message_bytes
from reaas._retry import Deadline

Metadata = tuple[tuple[str, str], ...]
MAX_DRAWS = 10**7  # The services take no larger number.


@dataclass(frozen=True)
class Purpose:
    """What queries are for: two labels of the meters, and the draws that a client declares."""

    scheme: Scheme
    phase: Phase = Phase.TEST
    draws: int | None = None
    """Queries that one certificate of these inputs takes as SEaaS."""


def check_draws(draws: int | None) -> int | None:
    """`draws`, if it can be declared. Raises InvalidArgumentError."""
    if draws is None or 1 <= draws <= MAX_DRAWS:
        return draws
    raise InvalidArgumentError(
        f"draws is {draws}; it must be from 1 to {MAX_DRAWS}",
        field="draws",
        limit=f"1 to {MAX_DRAWS}",
        got=str(draws),
    )


class Session:
    """Addresses, key, options and ledger of a client and of those derived from it."""

    def __init__(
        self,
        addresses: Mapping[Service, str | None],
        api_key: str | None,
        tls: TLS | None,
        options: ChannelOptions,
    ) -> None:
        self.options = options
        self.ledger = Ledger()
        self.endpoints = {
            service: Endpoint(address, tls, options)
            for service, address in addresses.items()
            if address
        }
        for endpoint in self.endpoints.values():
            check_api_key(api_key, endpoint)
        self._authorization = (("authorization", f"Bearer {api_key}"),) if api_key else ()
        self._process = os.getpid()
        self.closed = False

    def endpoint(self, service: Service) -> Endpoint:
        """Where a service is. Raises ReaasError where this client cannot call it."""
        if self.closed:
            raise ReaasError(CLOSED)
        if os.getpid() != self._process:
            # gRPC's threads and sockets do not survive a fork; using them would hang.
            raise ReaasError("this client was made before a fork; make one in each process")
        if service not in self.endpoints:
            raise InvalidArgumentError(
                f"this client has no address for the {service} service", field=str(service)
            )
        return self.endpoints[service]

    def deadline(self, timeout: float | None) -> Deadline:
        """The deadline of a call or a batch that begins now."""
        return Deadline(self.options.timeout_s if timeout is None else timeout)

    def any_service(self, service: str | None) -> Service:
        """The service named; None: the encoder service where there is one, else F2I."""
        if service is not None:
            return member(Service, service, "service")
        return next(iter(self.endpoints), Service.ENCODER)

    def metadata(self, purpose: Purpose) -> Metadata:
        """Who calls, and what for."""
        declared = () if purpose.draws is None else (("x-reaas-draws", str(purpose.draws)),)
        return (
            *self._authorization,
            ("x-reaas-scheme", str(purpose.scheme)),
            ("x-reaas-phase", str(purpose.phase)),
            *declared,
        )

    def account(
        self, api: Api[Any, Any, Any], want: Expected, reply: Message, purpose: Purpose
    ) -> None:
        """Enters one answered message into the ledger."""
        usage = Usage(want.count, want.request_bytes, message_bytes(reply))
        self.ledger.add(_key(api, want, purpose), usage)

    def account_unconfirmed(
        self, api: Api[Any, Any, Any], want: Expected, purpose: Purpose
    ) -> None:
        """Enters one message whose answer never came."""
        usage = Usage(want.count, want.request_bytes)
        self.ledger.add_unconfirmed(_key(api, want, purpose), usage)


def _key(api: Api[Any, Any, Any], want: Expected, purpose: Purpose) -> LedgerKey:
    return LedgerKey(api.name, str(purpose.scheme), str(purpose.phase), want.model.name)
