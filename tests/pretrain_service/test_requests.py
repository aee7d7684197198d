"""What the service refuses, for whom it answers, and that asking twice makes one run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import ValidationError
from reaas.v1 import model_pb2
from reaas.v1 import pretrain_pb2 as pb
from reaas_pretrain.service.local import train_command
from reaas_runtime.keys import add_key

from tests.pretrain_service.conftest import Script
from tests.pretrain_service.house import SPEC, create, ended, refused, service, settings
from tests.support.servers import error_info

Code = grpc.StatusCode
INVALID = Code.INVALID_ARGUMENT


def spec(**fields: Any) -> pb.RunSpec:
    changed = pb.RunSpec()
    changed.CopyFrom(SPEC)
    changed.MergeFrom(pb.RunSpec(**fields))
    return changed


@pytest.mark.parametrize(
    ("wrong", "reason", "field", "said"),
    [
        (spec(recipe="nope"), "INVALID_RECIPE", "spec.recipe", "there are: small"),
        (spec(recipe="../small"), "INVALID_RECIPE", "spec.recipe", "no recipe '../small'"),
        (
            spec(overrides={"schedule.epochz": "3"}),
            "INVALID_RECIPE",
            "spec",
            "unknown key schedule.epochz",
        ),
        (
            spec(overrides={"spectral.weight": "-1"}),
            "INVALID_RECIPE",
            "spec",
            "spectral.weight",
        ),
        (
            spec(overrides={"name": "mine"}),
            "INVALID_RECIPE",
            "spec.overrides[name]",
            "'mine' is no TOML value",
        ),
        (
            spec(overrides={"name": '"a"\ndescription = "b"'}),
            "INVALID_RECIPE",
            "spec.overrides[name]",
            "more than one value",
        ),
        (
            spec(overrides={"name.first": "1"}),
            "INVALID_RECIPE",
            "spec.overrides[name.first]",
            "unknown key name.first",
        ),
        (
            spec(overrides={"name": '"../models"'}),
            "INVALID_RECIPE",
            "spec.overrides",
            "'../models' cannot be a model's",
        ),
        (spec(epochs=-1), "INVALID_RECIPE", "spec.epochs", "spec.epochs is -1"),
        (spec(seed=-1), "INVALID_RECIPE", "spec", "schedule.seed"),
        (spec(dataset=".."), "INVALID_DATASET", "spec.dataset", "there are: pictures"),
        (spec(dataset="/etc"), "INVALID_DATASET", "spec.dataset", "no data set '/etc'"),
        (spec(dataset="pictures/.."), "INVALID_DATASET", "spec.dataset", "no data set"),
        (spec(dataset="pictures\x00"), "INVALID_DATASET", "spec.dataset", "no data set"),
        (spec(source="absent"), "INVALID_DATASET", "spec.source", "none of digits"),
        (spec(source="../secret"), "INVALID_DATASET", "spec.source", "source '../secret'"),
        (spec(source="/etc"), "INVALID_DATASET", "spec.source", "source '/etc'"),
        (spec(source="notes.txt"), "INVALID_DATASET", "spec.source", "nor a folder or .npz"),
        (spec(dataset="absent"), "INVALID_DATASET", "spec.dataset", "no data set 'absent'"),
    ],
)
async def test_a_wrong_run_names_what_is_wrong(
    house: Path, wrong: pb.RunSpec, reason: str, field: str, said: str
) -> None:
    (house / "data" / "secret").touch()
    (house / "data" / "pictures" / "notes.txt").touch()
    async with service(house) as (_, stub):
        error = await refused(stub.CreateRun(pb.CreateRunRequest(spec=wrong)))
        assert error.code() is INVALID
        assert (error_info(error).reason, error_info(error).metadata["field"]) == (reason, field)
        assert said in (error.details() or "")
        assert not (await stub.ListRuns(pb.ListRunsRequest())).runs


async def test_other_wrong_requests(house: Path, script: Script) -> None:
    script("exit 1")
    async with service(house) as (_, stub):
        run = await ended(stub, (await create(stub)).id)
        cases: list[tuple[Any, Code, str]] = [
            (stub.GetRun(pb.GetRunRequest(run_id="x")), Code.NOT_FOUND, "RUN_NOT_FOUND"),
            (stub.GetRun(pb.GetRunRequest()), Code.NOT_FOUND, "RUN_NOT_FOUND"),
            (stub.CancelRun(pb.CancelRunRequest(run_id="x")), Code.NOT_FOUND, "RUN_NOT_FOUND"),
            (
                stub.PublishRun(pb.PublishRunRequest(run_id=run.id)),
                Code.FAILED_PRECONDITION,
                "RUN_NOT_SUCCEEDED",
            ),
            (
                stub.PublishRun(pb.PublishRunRequest(run_id=run.id, version="../1")),
                INVALID,
                "INVALID_VERSION",
            ),
            (stub.ListRuns(pb.ListRunsRequest(page_size=1001)), INVALID, "INVALID_PAGE"),
            (stub.ListRuns(pb.ListRunsRequest(page_size=-1)), INVALID, "INVALID_PAGE"),
            (stub.ListRuns(pb.ListRunsRequest(state=99)), INVALID, "INVALID_PAGE"),  # type: ignore[arg-type]
            (
                stub.CreateRun(pb.CreateRunRequest(spec=SPEC, request_id="a b")),
                INVALID,
                "INVALID_REQUEST_ID",
            ),
        ]
        for call, code, reason in cases:
            error = await refused(call)
            assert (error.code(), error_info(error).reason) == (code, reason)
        watch = stub.WatchRun(pb.WatchRunRequest(run_id="x"))
        error = await refused(watch.read())
        assert error.code() is Code.NOT_FOUND


async def test_only_operators_may(house: Path, script: Script) -> None:
    script("true")
    file = house / "keys.txt"
    keys = {"ops": add_key("ops", file, ["operator"]), "phone": add_key("phone", file)}
    headers = {name: (("authorization", f"Bearer {key}"),) for name, key in keys.items()}
    calls: list[tuple[str, Any]] = [
        ("CreateRun", pb.CreateRunRequest(spec=SPEC)),
        ("GetRun", pb.GetRunRequest()),
        ("ListRuns", pb.ListRunsRequest()),
        ("CancelRun", pb.CancelRunRequest()),
        ("PublishRun", pb.PublishRunRequest()),
        ("ListRecipes", pb.ListRecipesRequest()),
    ]
    open_to = {"api_keys_file": file, "anonymous_operator": False}
    async with service(house, **open_to) as (_, stub):
        for method, request in calls:
            for metadata in ((), headers["phone"]):
                error = await refused(getattr(stub, method)(request, metadata=metadata))
                assert error.code() is Code.PERMISSION_DENIED, method
                assert error_info(error).reason == "PERMISSION_DENIED"
        watch = stub.WatchRun(pb.WatchRunRequest(), metadata=headers["phone"])
        assert (await refused(watch.read())).code() is Code.PERMISSION_DENIED
        info = await stub.GetInfo(model_pb2.GetInfoRequest(), metadata=headers["phone"])
        assert (info.client_id, list(info.backends)) == ("phone", ["local"])
        made = await stub.CreateRun(pb.CreateRunRequest(spec=SPEC), metadata=headers["ops"])
        assert made.run.client_id == "ops"
    async with service(house, allow_anonymous=False, **open_to) as (_, stub):
        error = await refused(stub.ListRuns(pb.ListRunsRequest()))
        assert error.code() is Code.UNAUTHENTICATED


def test_open_to_everybody_only_on_this_machine(house: Path) -> None:
    with pytest.raises(ValidationError, match="loopback host"):
        settings(house, host="0.0.0.0", allow_plaintext=True)


async def test_the_same_request_makes_one_run(house: Path, script: Script) -> None:
    script("true")
    async with service(house) as (_, stub):
        first = await create(stub, request_id="a")
        assert (await create(stub, request_id="a")).id == first.id
        assert (await create(stub, request_id="b")).id != first.id
        assert (await create(stub)).id != (await create(stub)).id
        other = pb.CreateRunRequest(spec=spec(epochs=7), request_id="a")
        error = await refused(stub.CreateRun(other))
        assert error.code() is Code.ALREADY_EXISTS
        await ended(stub, first.id)
    async with service(house) as (_, stub):
        assert (await create(stub, request_id="a")).id == first.id


async def test_pages(house: Path, script: Script) -> None:
    script("true")
    async with service(house) as (_, stub):
        made = [(await create(stub)).id for _ in range(5)]
        for run_id in made:
            await ended(stub, run_id)
        seen: list[str] = []
        sizes: list[int] = []
        token = ""
        while not sizes or token:
            page = await stub.ListRuns(pb.ListRunsRequest(page_size=2, page_token=token))
            seen += [run.id for run in page.runs]
            sizes.append(len(page.runs))
            token = page.next_page_token
            await create(stub)  # A new run does not move the pages that are still to come.
        assert (seen, sizes) == (made[::-1], [2, 2, 1])
        succeeded = pb.ListRunsRequest(state=pb.RUN_STATE_FAILED)
        assert not (await stub.ListRuns(succeeded)).runs


@pytest.mark.parametrize(
    ("source", "arguments"),
    [
        ("", ["--data", "{data}/pictures"]),
        ("cifar10", ["--data", "{data}/pictures", "--source", "cifar10"]),
        ("mine", ["--data", "{data}/pictures", "--source", "{data}/pictures/mine"]),
        ("a.npz", ["--data", "{data}/pictures", "--source", "{data}/pictures/a.npz"]),
    ],
)
async def test_images_by_name_or_of_the_data_set(
    house: Path, script: Script, source: str, arguments: list[str]
) -> None:
    script("true")
    (house / "data" / "pictures" / "mine").mkdir()
    (house / "data" / "pictures" / "a.npz").touch()
    async with service(house) as (server, stub):
        run = await create(stub, spec(source=source))
        assert run.spec.source == source
        command = train_command(server.servicer.store, server.servicer.catalogue, 1)
        words = command(server.servicer.store.get(run.id))
        wanted = [word.format(data=house / "data") for word in arguments]
        begin = list(words).index("--data")
        assert words[begin : begin + len(wanted)] == wanted
        assert ("--source" in words) is bool(source)


async def test_the_queue_is_bounded(house: Path, script: Script) -> None:
    script("sleep 60")
    async with service(house, max_queued=1) as (_, stub):
        error = None
        for _ in range(3):
            try:
                await create(stub)
            except grpc.aio.AioRpcError as refusal:
                error = refusal
        assert error is not None
        assert error.code() is Code.RESOURCE_EXHAUSTED
        assert error_info(error).reason == "QUEUE_FULL"


async def test_what_a_run_can_be_made_from(house: Path, script: Script) -> None:
    script("cat recipe.toml")
    (house / "recipes" / "broken.toml").write_text("name = ")
    async with service(house) as (_, stub):
        reply = await stub.ListRecipes(pb.ListRecipesRequest())
        assert [recipe.name for recipe in reply.recipes] == ["small"]
        assert '"epochs":3' in reply.recipes[0].settings_json
        assert list(reply.datasets) == ["pictures"]
        assert "tiny_imagenet" in reply.sources
        own = spec(overrides={"spectral.weight": "0.5", "name": '"mine"'}, epochs=7, seed=9)
        run = await create(stub, own)
        assert (run.model_name, run.epochs, run.spec) == ("mine", 7, own)
        await ended(stub, run.id)
        written = (house / "runs" / run.id / "recipe.toml").read_text()
        for line in ('name = "mine"', "weight = 0.5", "epochs = 7", "seed = 9"):
            assert line in written


NESTED = "[" * 400 + "]" * 400


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"encoder.channels": "[" * 5000 + "]" * 5000}, "has 10000 characters, the most is 1024"),
        ({"encoder.channels": NESTED}, "400 opening brackets, the most is 16"),
        ({"encoder": "{a = " * 100 + "1" + "}" * 100}, "100 opening brackets"),
        ({"spectral": "{a." + ".".join("b" * 400) + " = 1}"}, "unknown key spectral.a"),
        ({".".join("a" * 5000): "1"}, "an override's key has 9999 characters"),
        ({"a" * 64: "1"}, "unknown key"),
        ({"a.b.c": "1"}, "'section.key'"),
        ({"": "1"}, "'section.key'"),
        ({"x\n\x1b[31m": "1"}, "unknown key 'x\\n\\x1b[31m'"),
        ({f"a{i}.b": "1" for i in range(200)}, "has 200 keys, the most is 64"),
        ({"description": '"' + "x" * 10**4 + '"'}, "has 10002 characters"),
        ({"schedule.seed": "9" * 1000}, "schedule.seed"),
        ({"schedule.seed": "1" + "0" * 4400}, "characters"),
        ({"schedule.batch": "0x" + "f" * 1000}, "schedule.batch"),
        ({"optimiser.learning_rate": "inf"}, "optimiser.learning_rate"),
        ({"encoder.mean": "[nan, 0.0, 0.0]"}, "encoder.mean"),
        ({"encoder.channels": "[2000000, 2000000]"}, "encoder.channels.0"),
        ({"encoder.channels": str([2] * 65)}, "encoder.channels"),
        ({"encoder.feature_dim": "1999-01-01"}, "encoder.feature_dim"),
        ({"name": '"' + "n" * 300 + '"'}, "name"),
    ],
)
async def test_overrides_are_counted_and_measured_before_they_are_parsed(
    house: Path, overrides: dict[str, str], said: str
) -> None:
    async with service(house) as (_, stub):
        wrong = spec(overrides=overrides)
        error = await refused(stub.CreateRun(pb.CreateRunRequest(spec=wrong)))
        assert (error.code(), error_info(error).reason) == (INVALID, "INVALID_RECIPE")
        assert said in (error.details() or "")
        assert len(error.details() or "") < 1000
        assert not (await stub.ListRuns(pb.ListRunsRequest())).runs


async def test_one_client_does_not_fill_the_queue(house: Path, script: Script) -> None:
    script("sleep 60")
    file = house / "keys.txt"
    keys = {name: add_key(name, file, ["operator"]) for name in ("greedy", "modest")}
    headers = {name: (("authorization", f"Bearer {key}"),) for name, key in keys.items()}
    made = pb.CreateRunRequest(spec=SPEC)
    async with service(house, api_keys_file=file, max_queued_per_client=2) as (_, stub):
        error = None
        for _ in range(4):
            try:
                await stub.CreateRun(made, metadata=headers["greedy"])
            except grpc.aio.AioRpcError as refusal:
                error = refusal
        assert error is not None
        assert error_info(error).reason == "QUEUE_FULL"
        assert "of client 'greedy'" in (error.details() or "")
        await stub.CreateRun(made, metadata=headers["modest"])
