"""A service that has lost a part of itself says so and ends; one that is told to end, ends."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from reaas_runtime.supervision import Background

_SERVICE = """
import asyncio, sys
from reaas.v1.encoder_pb2_grpc import add_EncoderServiceServicer_to_server
from reaas_runtime import ServiceSettings, run_service
from tests.runtime.toy import Toy

class Fragile(Toy):
    async def start(self):
        async def work():
            await asyncio.sleep(0.5)
            {end}
        self.background.start("work of the test", work())

sys.exit(run_service(ServiceSettings, Fragile, add_EncoderServiceServicer_to_server, sys.argv[1:]))
"""


async def test_the_first_end_is_reported() -> None:
    background = Background()

    async def broken() -> None:
        raise ZeroDivisionError("secret")

    background.start("steady", asyncio.sleep(60))
    background.start("broken", broken())
    async with asyncio.timeout(10):
        lost = await background.lost()
    assert (lost.name, lost.why) == ("broken", "ZeroDivisionError")
    assert not background.whole
    await background.close()


async def test_an_end_that_is_asked_for_is_none() -> None:
    background = Background()
    background.start("steady", asyncio.sleep(60))
    await background.close()
    assert background.whole


async def test_a_return_a_cancellation_and_a_thread_count_too() -> None:
    for why in ("it returned", "CancelledError", "OSError"):
        background = Background()
        if why == "OSError":

            def hangs() -> None:
                raise OSError("volume gone")

            background.start_thread("part", hangs)
        else:
            task = background.start("part", asyncio.sleep(0 if why == "it returned" else 60))
            if why == "CancelledError":
                task.cancel()
        async with asyncio.timeout(10):
            assert (await background.lost()).why == why
        await background.close()


@pytest.mark.parametrize("end", ["return", "raise OSError('disk')", "raise asyncio.CancelledError"])
def test_a_lost_part_ends_the_process(models_dir: Path, end: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(_SERVICE).replace("{end}", end)]
    command += ["--port", "0", "--metrics-port", "0", "--allow-anonymous"]
    command += ["--models-dir", str(models_dir)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, ended.stderr
    assert '"part": "work of the test"' in ended.stderr


def test_a_signal_ends_a_process_whose_thread_hangs(models_dir: Path) -> None:
    hangs = "await asyncio.to_thread(__import__('time').sleep, 3600)"
    command = [sys.executable, "-c", textwrap.dedent(_SERVICE).replace("{end}", hangs)]
    command += ["--port", "0", "--metrics-port", "0", "--allow-anonymous"]
    command += ["--models-dir", str(models_dir), "--drain-seconds", "0", "--grace-seconds", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if "model ready" in line or "listening" in line:
                    break
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()
