"""``otpost keys``: make the keys that codes are sealed with, and see which ones a worker holds."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from otpost.sealing import PrivateKey
from otpost_worker.cli.context import json_option, load_settings, out, plain, print_json
from otpost_worker.keyfile import key_file_of, ledger_file, read_key, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otpost_worker.settings import Settings

_FROM_SETTINGS = "OTPOST_PRIVATE_KEYS"


@click.group()
def keys() -> None:
    """Make the keys that codes are sealed with, and see which ones a worker holds.

    Producers seal codes to a public key, and only workers, who have the private one, can open them: whoever reads
    the broker, the ledger or a backup of them reads no code. docs/sealed-codes.md tells how to begin and how to
    change keys.
    """


@keys.command()
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The folder to put them in [default: this one].",
)
@click.option("--name", default="otpost", show_default=True, help="What their files' names begin with.")
@json_option
def generate(folder: Path, name: str, as_json: bool) -> int:
    """Make a key pair in two files. A file that is there already is left alone.

    \b
    otpost-private.key  For workers, and nobody else: OTPOST_PRIVATE_KEYS_FILE=otpost-private.key.
                        It is readable by its owner alone. Without it, what is sealed is lost.
    otpost-public.key   For producers: OTPOST_PUBLIC_KEY="$(cat otpost-public.key)". No secret.
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    private, public = folder / f"{name}-private.key", folder / f"{name}-public.key"
    for file in (private, public):
        if file.exists():
            raise click.ClickException(f"{file} is there already: choose another --name or --dir")
    key = PrivateKey(secrets.token_bytes(32))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_private(private, key.reveal() + "\n")
        public.write_text(f"{key.public}\n", encoding="ascii")
    except OSError as error:
        raise click.ClickException(f"cannot write to {folder}: {error.strerror}; choose another --dir") from error
    if as_json:
        print_json({"public_key": str(key.public), "public_key_file": str(public), "private_key_file": str(private)})
        return 0
    click.echo(f"{private}: for workers, and nobody else; name it in OTPOST_PRIVATE_KEYS_FILE, and keep a copy")
    click.echo(f"{public}: for producers; its text is no secret:")
    click.echo(f"OTPOST_PUBLIC_KEY={key.public}")
    return 0


@keys.command()
@json_option
def show(as_json: bool) -> int:
    """Show which codes a worker with these settings opens.

    That is the public keys of the private ones that it holds. What it buries is sealed to the first of them.
    """
    sources: dict[str, str] = {}
    for key, source in _held(load_settings().settings):
        sources.setdefault(str(key.public), source)
    rows = [*sources.items()]
    if as_json:
        for public, source in rows:
            print_json({"public_key": public, "from": source, "seals_dead_letters": public == rows[0][0]})
        return 0
    table = Table("public key", "from", "", box=None, pad_edge=False)
    for public, source in rows:
        table.add_row(public, plain(source), "seals dead letters" if public == rows[0][0] else "")
    if rows:
        out().print(table)
    else:
        click.echo("there is no key yet: a worker with a SQLite ledger makes one beside it at its start", err=True)
    return 0


def _held(settings: Settings) -> Iterator[tuple[PrivateKey, str]]:
    if settings.private_keys is not None:
        for key in PrivateKey.parse_all(settings.private_keys.get_secret_value()):
            yield key, _FROM_SETTINGS
    ledger = ledger_file(settings.ledger_url.get_secret_value())
    if ledger is not None:
        file = key_file_of(ledger)
        beside = read_key(file)
        if beside is not None:
            yield beside, str(file)
