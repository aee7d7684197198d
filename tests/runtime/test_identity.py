from __future__ import annotations

from pathlib import Path

import pytest
from reaas_runtime import ConfigurationError, DomainError, Reason
from reaas_runtime.identity import ApiKeys
from reaas_runtime.keys import add_key, main


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.txt"


def test_a_made_key_identifies_its_client_and_is_not_stored(file: Path) -> None:
    keys = {client: add_key(client, file) for client in ("phone-1", "car.7")}
    known = ApiKeys.load(file, allow_anonymous=False)
    assert known.client_ids == ["phone-1", "car.7"]
    for client, key in keys.items():
        assert known.authenticate(f"Bearer {key}") == client
        assert known.authenticate(f"bearer  {key} ") == client
        assert key not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0


def test_a_role_is_what_the_key_file_says(file: Path) -> None:
    add_key("phone", file)
    add_key("ops", file, ["operator"])
    keys = ApiKeys.load(file, allow_anonymous=True)
    assert keys.roles_of("ops") == {"operator"}
    assert keys.roles_of("phone") == keys.roles_of("anonymous") == frozenset()


@pytest.mark.parametrize("authorization", [None, "", "Bearer ", "Bearer wrong", "Basic abc"])
@pytest.mark.parametrize("allow_anonymous", [False, True])
def test_wrong_keys_are_refused(
    file: Path, authorization: str | None, allow_anonymous: bool
) -> None:
    add_key("phone", file)
    keys = ApiKeys.load(file, allow_anonymous=allow_anonymous)
    if authorization is None and allow_anonymous:
        assert keys.authenticate(None) == "anonymous"
        return
    with pytest.raises(DomainError) as refused:
        keys.authenticate(authorization)
    assert refused.value.reason is Reason.UNAUTHENTICATED
    assert "wrong" not in refused.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("phone: abc", r"keys\.txt:1: not 64 hex digits after 'phone'"),
        ("\n# c\nno colon here", r"keys\.txt:3: client id 'no colon here' is not"),
        (f"other: {'0' * 64}", "reserved"),
        (f"anonymous: {'0' * 64}", "reserved"),
        (f"a: {'0' * 64}\na: {'1' * 64}", r"keys\.txt:2: client 'a' is there twice"),
        (f"a: {'0' * 64} wizard", r"keys\.txt:1: role 'wizard' is not known; there are: admin"),
    ],
)
def test_a_faulty_key_file_names_the_line(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        ApiKeys.load(file, allow_anonymous=False)


def test_command_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add", "phone", "--file", str(file)]) == 0
    key = capsys.readouterr().out.strip()
    assert ApiKeys.load(file, allow_anonymous=False).authenticate(f"Bearer {key}") == "phone"
    assert main(["add", "ops", "--role", "operator", "--file", str(file)]) == 0
    assert ApiKeys.load(file, allow_anonymous=False).roles_of("ops") == {"operator"}
    assert main(["add", "phone", "--file", str(file)]) == 2
    assert "already" in capsys.readouterr().err
