"""kill -9 of a service in the middle of a run: a typed error or a retry, no wrong certificate."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from reaas import ChannelOptions, Client, ServiceUnavailableError
from reaas.certify import DownstreamClassifier
from reaas.datasets import Dataset
from reaas.schemes import ImageCertificates, ReaasScheme, SeaasScheme

from evaluation.services import ServiceProcess, Services, start_service

Advance = Callable[[int], None]
PATIENT = ChannelOptions(retry_for_s=90.0)
IMPATIENT = ChannelOptions(retry_for_s=0.5)
VOTES = 200


class Victim:
    """A service that can be killed, and started again on its port."""

    def __init__(self, start: Callable[[int | None], ServiceProcess]) -> None:
        self._start = start
        self._running = start(None)
        self.address = self._running.address

    def wait_until_serving(self) -> None:
        self._running.wait_until_serving()

    def kill(self) -> None:
        os.killpg(self._running.process.pid, signal.SIGKILL)
        self._running.process.wait()

    def restart(self) -> None:
        self.kill()
        self._running = self._start(self._running.port)

    def stop(self) -> None:
        self._running.stop()


@pytest.fixture
def victim(
    request: pytest.FixtureRequest, models_dir: Path, services: Services, tmp_path: Path
) -> Iterator[Victim]:
    """A service of this test's own, which knows the same API keys as the others."""

    def start(port: int | None) -> ServiceProcess:
        return start_service(
            request.param, models_dir, tmp_path, key_file=services.key_file, port=port
        )

    own = Victim(start)
    try:
        own.wait_until_serving()
        yield own
    finally:
        own.stop()


@pytest.fixture(scope="module")
def classifier() -> DownstreamClassifier:
    random = np.random.default_rng(0)
    return DownstreamClassifier((random.normal(size=(10, 8)),), (random.normal(size=10),))


@pytest.fixture(scope="module")
def undisturbed(
    services: Services, digits: Dataset, classifier: DownstreamClassifier
) -> ImageCertificates:
    with Client(
        services.encoder.address, services.f2i.address, api_key=services.keys["direct"]
    ) as client:
        return certify(client, digits, classifier, lambda _: None)


def certify(
    client: Client,
    digits: Dataset,
    classifier: DownstreamClassifier,
    advance: Advance,
) -> ImageCertificates:
    scheme = ReaasScheme(client, "tiny", batch_inputs=2, in_flight=1)
    return scheme.certify_base(digits.test_images, classifier, advance=advance)


def votes(
    client: Client,
    digits: Dataset,
    classifier: DownstreamClassifier,
    advance: Advance,
) -> list[list[int]]:
    scheme = SeaasScheme(client, "tiny", sigma=0.3, seed=1, batch_inputs=100)
    found = scheme.votes(digits.test_images, classifier, VOTES, advance=advance)
    return [[int(vote) for vote in row] for row in found]


def at_the_third_call(action: Callable[[], None]) -> Advance:
    calls = 0

    def advance(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            action()

    return advance


def with_f2i(services: Services, victim: Victim, options: ChannelOptions) -> Client:
    key = services.keys["victim"]
    return Client(services.encoder.address, victim.address, api_key=key, options=options)


def with_encoder(services: Services, victim: Victim, options: ChannelOptions) -> Client:
    key = services.keys["victim"]
    return Client(victim.address, services.f2i.address, api_key=key, options=options)


@pytest.mark.parametrize("victim", ["f2i"], indirect=True)
def test_f2i_killed_and_restarted_gives_the_same_certificates(
    services: Services,
    victim: Victim,
    digits: Dataset,
    classifier: DownstreamClassifier,
    undisturbed: ImageCertificates,
) -> None:
    with with_f2i(services, victim, PATIENT) as client:
        found = certify(client, digits, classifier, at_the_third_call(victim.restart))
    assert found.model == undisturbed.model
    assert np.array_equal(found.labels, undisturbed.labels)
    assert np.array_equal(found.radii, undisturbed.radii)
    assert (undisturbed.radii > 0.0).any()


@pytest.mark.parametrize("victim", ["f2i"], indirect=True)
def test_f2i_killed_for_good_is_a_typed_error(
    services: Services, victim: Victim, digits: Dataset, classifier: DownstreamClassifier
) -> None:
    with with_f2i(services, victim, IMPATIENT) as client, pytest.raises(ServiceUnavailableError):
        certify(client, digits, classifier, at_the_third_call(victim.kill))


@pytest.mark.parametrize("victim", ["encoder"], indirect=True)
def test_encoder_killed_and_restarted_gives_the_same_votes(
    services: Services, victim: Victim, digits: Dataset, classifier: DownstreamClassifier
) -> None:
    with Client(services.encoder.address, api_key=services.keys["direct"]) as client:
        expected = votes(client, digits, classifier, lambda _: None)
    with with_encoder(services, victim, PATIENT) as client:
        disturbed = votes(client, digits, classifier, at_the_third_call(victim.restart))
    assert disturbed == expected


@pytest.mark.parametrize("victim", ["encoder"], indirect=True)
def test_encoder_killed_for_good_is_a_typed_error(
    services: Services, victim: Victim, digits: Dataset, classifier: DownstreamClassifier
) -> None:
    with (
        with_encoder(services, victim, IMPATIENT) as client,
        pytest.raises(ServiceUnavailableError),
    ):
        votes(client, digits, classifier, at_the_third_call(victim.kill))
