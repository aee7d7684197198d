"""The harnesses themselves, on real services: short forms of `make hostile`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from reaas.v1 import f2i_pb2

from evaluation.hostile.chaos import run_chaos
from evaluation.hostile.frames import hostile_bytes
from evaluation.hostile.fuzz import SERVICES, fuzz
from evaluation.hostile.messages import mutated, spoilt
from evaluation.hostile.targets import methods
from evaluation.hostile.watching import pod_limit_mib

MODELS = Path("models")


@pytest.mark.parametrize("service", SERVICES)
def test_every_method_has_real_messages_and_can_be_mutated(service: str) -> None:
    rng = random.Random(0)
    for method in methods(service):
        for seed in method.seeds:
            for _ in range(20):
                assert len(mutated(seed, rng).SerializeToString()) < 64 * 2**20
                spoilt(seed.SerializeToString(), rng)
    assert pod_limit_mib(service) >= 256


def test_a_seed_says_what_is_sent() -> None:
    def message(seed: int) -> bytes:
        real = methods("f2i")[0].seeds[1]
        return mutated(real, random.Random(seed), 0.5).SerializeToString(deterministic=True)

    assert message(1) == message(1)
    assert len({message(seed) for seed in range(20)}) > 10
    assert hostile_bytes(random.Random(5), "key") == hostile_bytes(random.Random(5), "key")
    assert f2i_pb2.PerturbRequest.FromString(message(1)) is not None


@pytest.mark.slow
def test_services_survive_a_thousand_hostile_requests() -> None:
    report = fuzz(1_000, seed=11, models_dir=MODELS)
    for service in report.services:
        assert not service.died
        assert not service.faults, service.faults
        assert (service.log.tracebacks, service.log.canaries) == (0, {}), service.log.examples
        assert service.most_mib < service.limit_mib
        assert service.health.failed == 0


@pytest.mark.slow
def test_half_a_minute_of_chaos_loses_nothing() -> None:
    report = run_chaos(MODELS, "moco-sn", seconds=30.0, stopped_s=4.0)
    assert report.lost == {}
    assert report.wrong == 0
    assert set(report.calls) == {"encode", "encode_stream", "perturb", "perturb_margins"}
    assert sum(report.faults.values()) >= 3
