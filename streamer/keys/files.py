"""Key files: a folder for the one who binds, a single file for each who connects. All of them 0600."""

import contextlib
import os
import re
import tomllib
from pathlib import Path
from typing import NamedTuple, Self

import zmq

_SERVER_FILE = "server.key"
_ALLOWED_FILE = "allowed"
_MAX_BYTES = 1 << 20
_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


HANDSHAKE_MS = 2000
"""A connection whose keys are not settled by then is given up, and tried again by the client."""


class KeysError(ValueError):
    """A key file is missing, damaged or open to others; says which and what to do."""


class ClientKeys(NamedTuple):
    """What a client needs to connect; keys as Z85 text."""

    server: bytes
    """The server's public key: nobody else is believed."""
    public: bytes
    secret: bytes

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a client's file.

        :raises KeysError: if it cannot be read, is damaged, or others may read it.
        """
        if path.is_dir():
            raise KeysError(
                f"{path} is a folder with a server's keys; a client needs a file made by "
                f"`sonostream keys client {path} NAME`"
            )
        return cls(*_read_keys(path, "server", "public", "secret"))


class ServerKeys:
    """A server's pair and the clients it allows. The list is read again when it has changed."""

    def __init__(self, folder: Path) -> None:
        """Read the folder.

        :raises KeysError: if a file is missing, damaged or open to others.
        """
        if not folder.is_dir():
            raise KeysError(
                f"no such folder of keys: {folder}; `sonostream keys new {folder}` makes one "
                "(whoever binds needs a folder, whoever connects a client's file)"
            )
        self.folder = folder
        self.public, self.secret = _read_keys(folder / _SERVER_FILE, "public", "secret")
        self._allowed_file = folder / _ALLOWED_FILE
        self._read_as: tuple[int, ...] = ()
        self._clients: dict[str, bytes] = {}
        self._refresh()

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Make a folder, readable to its owner only, with a new pair and nobody allowed.

        :raises KeysError: if there are keys already, or it cannot be written.
        """
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            public, secret = zmq.curve_keypair()
            _write_new(folder / _SERVER_FILE, "sonostream server", {"public": public, "secret": secret})
            _replace(folder / _ALLOWED_FILE, "")
        except FileExistsError:
            raise KeysError(f"{folder} has a server's key already; choose another folder") from None
        except OSError as error:
            raise KeysError(f"cannot write keys to {folder}: {error.strerror}") from None
        return cls(folder)

    def clients(self) -> dict[str, bytes]:
        """Return the public key of every allowed client by name.

        :raises KeysError: if the list is damaged or open to others.
        """
        self._refresh()
        return dict(self._clients)

    def allows(self, public: bytes) -> bool:
        """Whether the client with this public key, as Z85, may connect; nobody may while the list is bad."""
        try:
            self._refresh()
        except KeysError:
            return False
        return public in self._clients.values()

    def new_client(self, name: str, path: Path | None = None) -> Path:
        """Make a pair for a client, allow it, and return the file to bring to its machine.

        :param path: of the new file; None: in the folder, under the client's name.
        :raises KeysError: if the name is taken or wrong, or the file exists.
        """
        self._check_free(name)
        path = path or self.folder / f"{name}.key"
        public, secret = zmq.curve_keypair()
        try:
            _write_new(
                path,
                f"sonostream client {name}",
                {"server": self.public, "public": public, "secret": secret},
            )
        except FileExistsError:
            raise KeysError(f"{path} exists already; choose another name") from None
        except OSError as error:
            raise KeysError(f"cannot write {path}: {error.strerror}") from None
        self.allow(name, public)
        return path

    def allow(self, name: str, public: bytes) -> None:
        """Let the client with this public key in.

        :raises KeysError: if the name is taken or wrong, or the key is none.
        """
        self._check_free(name)
        if not _KEY.fullmatch(public.decode(errors="replace")):
            raise KeysError(f"{public.decode(errors='replace')!r} is no public key: expected 40 characters")
        self._save({**self._clients, name: public})

    def revoke(self, name: str) -> None:
        """Take a client off the list: a server that runs hangs up on it.

        :raises KeysError: if there is no such client.
        """
        clients = self.clients()
        if name not in clients:
            known = ", ".join(clients) or "none"
            raise KeysError(f"no client is named {name!r} in {self.folder}; allowed are: {known}")
        del clients[name]
        self._save(clients)

    def _check_free(self, name: str) -> None:
        if not _NAME.fullmatch(name) or f"{name}.key" == _SERVER_FILE:
            raise KeysError(f"{name!r} is no name for a client: use letters, digits, '_', '-' and '.'")
        if name in self.clients():
            raise KeysError(f"a client named {name!r} is allowed already; revoke it first")

    def _save(self, clients: dict[str, bytes]) -> None:
        _replace(
            self._allowed_file, "".join(f"{name} {public.decode()}\n" for name, public in clients.items())
        )
        self._refresh()

    def _refresh(self) -> None:
        try:
            status = self._allowed_file.stat()
        except OSError:
            raise KeysError(f"the list of allowed clients is missing: {self._allowed_file}") from None
        # The mode is part of it: a list that became open to others is refused from then on.
        now = (status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode)
        if now == self._read_as:
            return
        self._read_as = ()
        clients = {}
        for line in _read_private(self._allowed_file).splitlines():
            name, _, public = line.partition(" ")
            if not _NAME.fullmatch(name) or not _KEY.fullmatch(public):
                raise KeysError(f"{self._allowed_file}: expected lines of a name and a public key")
            clients[name] = public.encode()
        self._clients, self._read_as = clients, now


def _read_keys(path: Path, *names: str) -> tuple[bytes, ...]:
    text = _read_private(path)
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError):
        content = {}
    keys = [content.get(name) for name in names]
    if not all(isinstance(key, str) and _KEY.fullmatch(key) for key in keys):
        raise KeysError(f"{path} is not a key file with {', '.join(names)}; make one with `sonostream keys`")
    return tuple(str(key).encode() for key in keys)


def _read_private(path: Path) -> str:
    """Read a file that nobody else may read; the check is on the open file, so it cannot be swapped."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & 0o077:
                raise KeysError(
                    f"{path} is open to others (mode {status.st_mode & 0o777:04o}): run `chmod 600 {path}`, "
                    "and make new keys if a stranger may have read it"
                )
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise KeysError(f"cannot read {path}: {(error.strerror or 'error').lower()}") from None
    if len(data) > _MAX_BYTES:
        raise KeysError(f"{path} is too large for a key file")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise KeysError(f"{path} is not a text file") from None


def _write_new(path: Path, title: str, keys: dict[str, bytes]) -> None:
    lines = "".join(f'{name} = "{key.decode()}"\n' for name, key in keys.items())
    with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(f"# {title}: keep this file to yourself\n{lines}")


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    with os.fdopen(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def use_client_keys(socket: "zmq.Socket[bytes]", keys: ClientKeys) -> None:
    """Prepare a socket to connect: it talks to the owner of the server key and to nobody else."""
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
