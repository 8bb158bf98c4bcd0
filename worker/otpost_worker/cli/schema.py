"""``otpost schema``."""

from __future__ import annotations

from pathlib import Path

import click
import orjson

from otpost.schemas import FILES, document
from otpost_worker.cli.context import json_option, print_json


@click.command()
@click.argument("name", type=click.Choice([*FILES]), required=False)
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write files there instead: the named one, or all.",
)
@json_option
def schema(name: str | None, folder: Path | None, as_json: bool) -> int:
    """Print the JSON Schema of a job, a result or an event, or the AsyncAPI document.

    Without a NAME, list what there is; with --json too, print all of it as one object.
    """
    if folder is not None:
        _write(folder, [name] if name else [*FILES])
    elif as_json:
        print_json(document(name) if name else {one: document(one) for one in FILES})
    elif name is not None:
        click.echo(_text(name), nl=False)
    else:
        for one in FILES:
            described = document(one)
            click.echo(f"otpost schema {one:<9} {described.get('$id', 'AsyncAPI ' + described.get('asyncapi', ''))}")
    return 0


def _write(folder: Path, names: list[str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            (folder / FILES[name]).write_text(_text(name), encoding="utf-8")
            click.echo(folder / FILES[name])
    except OSError as error:
        raise click.ClickException(f"cannot write to {folder}: {error.strerror}; name another folder") from error


def _text(name: str) -> str:
    return orjson.dumps(document(name), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()
