"""Key files and the command that makes them."""

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streamer.cli import app
from streamer.keys import ClientKeys, KeysError, ServerKeys


def keys(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["keys", *map(str, arguments)])
    return done.exit_code, done.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert keys("new", tmp_path / "keys")[0] == 0
    return tmp_path / "keys"


def test_every_file_of_keys_is_readable_to_its_owner_only(folder: Path) -> None:
    keys("client", folder, "display-1")

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"server.key": 0o600, "allowed": 0o600, "display-1.key": 0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_client_is_made_listed_revoked_and_allowed_again(folder: Path, tmp_path: Path) -> None:
    assert keys("client", folder, "display-1", "--to", tmp_path / "elsewhere.key")[0] == 0
    public = ClientKeys.load(tmp_path / "elsewhere.key").public.decode()

    assert keys("list", folder) == (0, f"display-1  {public}\n")
    assert keys("revoke", folder, "display-1")[0] == 0
    assert keys("list", folder) == (0, "")
    assert keys("allow", folder, "other", public)[0] == 0
    assert keys("list", folder) == (0, f"other  {public}\n")


def test_the_secret_key_of_a_server_is_never_shown(folder: Path) -> None:
    secret = ServerKeys(folder).secret.decode()

    assert secret not in keys("list", folder)[1] + keys("client", folder, "a")[1]
    assert secret not in (folder / "a.key").read_text()


def test_keys_are_never_overwritten(folder: Path) -> None:
    before = (folder / "server.key").read_bytes()
    code, said = keys("new", folder)

    assert (code, (folder / "server.key").read_bytes()) == (2, before)
    assert "has a server's key already" in said


@pytest.mark.parametrize("name", ["server.key", "allowed"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_file_that_others_may_read_or_write_is_refused(folder: Path, name: str, mode: int) -> None:
    (folder / name).chmod(mode)

    with pytest.raises(KeysError, match=f"{name} is open to others.*chmod 600"):
        ServerKeys(folder)


def test_a_clients_file_that_others_may_read_is_refused(folder: Path) -> None:
    path = ServerKeys(folder).new_client("a")
    path.chmod(0o644)

    with pytest.raises(KeysError, match=r"open to others \(mode 0644\): run `chmod 600"):
        ClientKeys.load(path)


def test_nobody_is_allowed_while_the_list_is_open_to_others(folder: Path) -> None:
    server = ServerKeys(folder)
    public = ClientKeys.load(server.new_client("a")).public
    assert server.allows(public)
    (folder / "allowed").chmod(0o666)

    assert not server.allows(public)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"secret = 1",
        b"\xff\xfe\x00",
        b"[" * 5000,
        b'public = "short"\nsecret = "short"',
        b"x" * (2 << 20),
    ],
)
def test_a_damaged_key_file_is_named(folder: Path, content: bytes) -> None:
    (folder / "server.key").write_bytes(content)

    with pytest.raises(KeysError, match=r"server\.key"):
        ServerKeys(folder)


def test_a_damaged_list_of_clients_is_named(folder: Path) -> None:
    (folder / "allowed").write_text("display-1 nokey\n")

    with pytest.raises(KeysError, match="allowed: expected lines of a name and a public key"):
        ServerKeys(folder)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("list", "absent"), "no such folder of keys: absent"),
        (("client", "FOLDER", "../evil"), "is no name for a client"),
        (("client", "FOLDER", "server"), "is no name for a client"),
        (("allow", "FOLDER", "a", "too-short"), "is no public key"),
        (("revoke", "FOLDER", "nobody"), "no client is named 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(
    folder: Path, arguments: tuple[str, ...], says: str
) -> None:
    code, said = keys(*(folder if word == "FOLDER" else word for word in arguments))

    assert code == 2
    assert says in said
    assert said.count("\n") == 1


def test_the_folder_of_a_server_is_not_taken_for_a_clients_file(folder: Path) -> None:
    with pytest.raises(KeysError, match="sonostream keys client"):
        ClientKeys.load(folder)
