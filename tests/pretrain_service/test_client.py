"""`reaas.runs` and `reaas runs` against a real service."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import reaas
import structlog
from click.testing import CliRunner, Result
from reaas.cli._app import app
from reaas.runs import Event, Run, RunError, RunOutput, RunProgress, RunsClient, RunState
from reaas_runtime.keys import add_key

from tests.pretrain_service.conftest import Script
from tests.pretrain_service.house import Server, service

TRAINING = """
mkdir -p training
for epoch in 1 2 3; do
  (echo epoch,loss; seq $epoch | sed 's/$/,0.5/') > training/tmp
  mv training/tmp training/log.csv; echo "epoch $epoch"
  while [ ! -e ../../go ]; do sleep 0.02; done
done
"""


def follow(client: RunsClient, run_id: str) -> list[Event]:
    return list(client.watch(run_id))


def epochs(events: list[Event]) -> list[int]:
    return [event.epoch for event in events if isinstance(event, RunProgress)]


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, RunOutput))


async def test_a_run_from_the_client(house: Path, script: Script) -> None:
    script(TRAINING)
    (house / "go").touch()
    async with service(house) as (server, _):
        with RunsClient(server.address) as client:
            made = await asyncio.to_thread(
                lambda: client.create(
                    "small", overrides={"spectral.weight": "0.5"}, dataset="pictures", seed=3
                )
            )
            assert (made.recipe, made.model_name, made.epochs) == ("small", "small", 3)
            assert dict(made.overrides) == {"spectral.weight": "0.5"}
            events = await asyncio.to_thread(follow, client, made.id)
            assert epochs(events) == [1, 2, 3]
            assert text(events) == "epoch 1\nepoch 2\nepoch 3\n"
            assert isinstance(events[-1], Run)
            assert events[-1] == await asyncio.to_thread(client.get, made.id)
            assert events[-1].state is RunState.SUCCEEDED
            assert events[-1].has_ended
            assert events[-1].created.tzinfo is not None
            more = [await asyncio.to_thread(client.create, "small") for _ in range(2)]
            listed = await asyncio.to_thread(lambda: list(client.runs()))
            assert [run.id for run in listed] == [more[1].id, more[0].id, made.id]
            assert [r.name for r in (await asyncio.to_thread(client.recipes)).recipes] == ["small"]
            for run in more:
                await asyncio.to_thread(follow, client, run.id)
            succeeded = await asyncio.to_thread(lambda: list(client.runs("succeeded")))
            assert len(succeeded) == 3
            with pytest.raises(reaas.InvalidArgumentError, match="state is 'done'"):
                list(client.runs("done"))


async def test_a_watcher_sits_a_restart_out(house: Path, script: Script) -> None:
    script(TRAINING)
    async with service(house) as (server, _):
        port = server.port
        options = reaas.ChannelOptions(retry_for_s=60.0)
        client = RunsClient(server.address, options=options)
        run = await asyncio.to_thread(client.create, "small")
        watching = asyncio.create_task(asyncio.to_thread(follow, client, run.id))
        while not (house / "runs" / run.id / "training" / "log.csv").exists():
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
    (house / "go").touch()
    async with service(house, port=port):
        events = await watching
        client.close()
    assert epochs(events) == [1, 2, 3]
    assert isinstance(events[-1], Run)
    assert events[-1].state is RunState.SUCCEEDED


async def test_errors_have_types(house: Path, script: Script) -> None:
    script("exit 1")
    file = house / "keys.txt"
    key = add_key("phone", file)
    changes = {"api_keys_file": file}
    async with service(house, **changes) as (server, _):
        with RunsClient(server.address) as client:
            with pytest.raises(RunError, match="there is no run 'x'") as unknown:
                await asyncio.to_thread(client.get, "x")
            assert unknown.value.reason == "RUN_NOT_FOUND"
            with pytest.raises(RunError, match="there is no run 'x'"):
                await asyncio.to_thread(follow, client, "x")
            with pytest.raises(reaas.InvalidArgumentError, match="no recipe 'x'"):
                await asyncio.to_thread(client.create, "x")
            run = await asyncio.to_thread(client.create, "small")
            await asyncio.to_thread(follow, client, run.id)
            with pytest.raises(RunError, match="only one that succeeded"):
                await asyncio.to_thread(client.publish, run.id)
        with pytest.raises(reaas.ReaasError, match="closed"):
            client.get("x")
        with (
            RunsClient(server.address, api_key=key) as client,
            pytest.raises(reaas.UnauthenticatedError, match="no role 'operator'"),
        ):
            await asyncio.to_thread(client.get, "x")


async def invoke(server: Server, *arguments: str, json_: bool = False) -> Result:
    """`reaas runs ...` in a thread, for the service is in this one."""
    command = [*(["--json"] if json_ else []), "runs", *arguments]
    environment = {"REAAS_PRETRAIN": server.address, "REAAS_API_KEY": None}
    # The service of this process would log to the output of the command.
    with structlog.testing.capture_logs():
        return await asyncio.to_thread(
            lambda: CliRunner().invoke(app, command, env=environment, catch_exceptions=False)
        )


async def test_command_line(house: Path, script: Script) -> None:
    script(f"cat recipe.toml; {TRAINING}")
    (house / "go").touch()
    async with service(house) as (server, _):
        made = await invoke(
            server, "create", "small", "--set", "name=mine", "--set", "schedule.batch=4",
            "--epochs", "3", "--seed", "7", "--watch",
        )  # fmt: skip
        assert made.exit_code == 0, made.output
        assert 'name = "mine"' in made.output
        assert "3/3" in made.output
        listed = json.loads((await invoke(server, "list", json_=True)).output)
        [run] = listed["results"]
        assert (run["state"], run["epochs"]) == ("succeeded", "3/3")
        watched = await invoke(server, "watch", run["run"], json_=True)
        events: list[dict[str, Any]] = [
            json.loads(line) for line in watched.output.splitlines() if line.startswith('{"')
        ]
        assert [e["runprogress"]["epoch"] for e in events if "runprogress" in e] == [1, 2, 3]
        cancelled = await invoke(server, "cancel", run["run"])
        assert "succeeded" in cancelled.output, "what has ended stays as it is"
        recipes = await invoke(server, "recipes")
        assert "small" in recipes.output
        assert "Data sets: pictures" in recipes.output
        wrong = await invoke(server, "create", "small", "--set", "schedule.epochz=3")
        assert wrong.exit_code == 2
        assert "unknown key schedule.epochz" in wrong.output
        assert (await invoke(server, "create", "small", "--set", "x")).exit_code == 2


async def test_a_run_that_fails_ends_the_command_with_an_error(house: Path, script: Script) -> None:
    script("echo 'no memory [left]'; exit 1")
    async with service(house) as (server, _):
        made = await invoke(server, "create", "small", "--watch")
        assert made.exit_code == 6
        assert "failed: no memory [left]" in made.output
