"""``otpost completion``, and what it completes beside commands and options."""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem, get_completion_class

from otpost_worker.cli.context import read_text
from otpost_worker.outcome import Kind
from otpost_worker.settings import InvalidSettings, load

# The name that click derives from the command's own, and looks for at each start.
_VARIABLE = "_OTPOST_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> int:
    """Print the script that completes commands, options and their values in a SHELL.

    \b
    bash, in ~/.bashrc:     eval "$(otpost completion bash)"
    zsh, in ~/.zshrc:       eval "$(otpost completion zsh)"
    fish, once:             otpost completion fish > ~/.config/fish/completions/otpost.fish

    Bash has to be 4.4 or later. Senders are completed from the settings in force.
    """  # noqa: D301 - \b is click's mark for text that keeps its lines
    script = get_completion_class(shell)
    assert script is not None  # noqa: S101 - click knows all three
    click.echo(script(context.find_root().command, {}, "otpost", _VARIABLE).source())
    return 0


def sender_names(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of a sender; nothing where the settings cannot be read."""
    try:
        senders = load(os.environ, read_text).settings.senders
    except InvalidSettings:
        return []
    return [CompletionItem(name) for name in sorted(senders) if name.startswith(incomplete)]


def reasons(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the reason of a dead letter."""
    return [CompletionItem(kind.value) for kind in Kind if kind.startswith(incomplete)]
