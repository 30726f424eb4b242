"""`sonostream keys`: who may connect to sockets that others can reach."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from streamer.keys.files import KeysError, ServerKeys

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="The server's folder of keys.")]
Name = Annotated[str, typer.Argument(help="Of the client, such as display-1.")]

keys_app = typer.Typer(
    no_args_is_help=True,
    help="Make keys for ZeroMQ sockets beyond this machine, and say who may connect.\n\n"
    "Whoever binds has a folder (publish.keys, source.keys); whoever connects has one file "
    "(sonostream view --keys FILE). Connections are encrypted, and only the clients listed are let in.",
)


@contextmanager
def _said_plainly() -> Iterator[None]:
    try:
        yield
    except KeysError as error:
        typer.echo(f"sonostream: {error}", err=True)
        raise typer.Exit(2) from None


@keys_app.command()
def new(folder: Folder) -> None:
    """Make a server's folder with a new pair of keys; nobody is allowed yet."""
    with _said_plainly():
        keys = ServerKeys.create(folder)
    typer.echo(f"{folder}: the server's public key is {keys.public.decode()}")


@keys_app.command()
def client(
    folder: Folder,
    name: Name,
    to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it; else FOLDER/NAME.key.")
    ] = None,
) -> None:
    """Make a pair of keys for a client and allow it; bring the file to the client's machine."""
    with _said_plainly():
        path = ServerKeys(folder).new_client(name, to)
    typer.echo(f"{path}: {name} connects with this file")


@keys_app.command()
def allow(
    folder: Folder,
    name: Name,
    public: Annotated[str, typer.Argument(help="The client's public key, 40 characters.")],
) -> None:
    """Allow a client that has made its own pair."""
    with _said_plainly():
        ServerKeys(folder).allow(name, public.encode())


@keys_app.command()
def revoke(folder: Folder, name: Name) -> None:
    """Cut a client off, at once where the server runs; the others are back within a moment."""
    with _said_plainly():
        ServerKeys(folder).revoke(name)


@keys_app.command("list")
def list_clients(folder: Folder) -> None:
    """List the clients that are allowed, with their public keys."""
    with _said_plainly():
        for name, public in ServerKeys(folder).clients().items():
            typer.echo(f"{name}  {public.decode()}")
