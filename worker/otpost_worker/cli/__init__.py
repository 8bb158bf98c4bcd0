"""The command line: parses, calls, prints."""

from __future__ import annotations

import importlib
import sys
from typing import Final

import click

import otpost
from otpost.errors import OtpostError
from otpost_worker.cli.context import complain
from otpost_worker.ports import LedgerUnavailable
from otpost_worker.quieting import quiet_libraries
from otpost_worker.settings import InvalidSettings

# Command: its module here, and its name there. A module is loaded when its command is wanted, so that each command
# starts without what the others need.
_COMMANDS: Final = {
    "send": ("send", "send"),
    "worker": ("service", "worker"),
    "webhook": ("webhook", "webhook"),
    "results": ("results", "results"),
    "dead": ("dead", "dead"),
    "topology": ("topology", "topology"),
    "keys": ("keys", "keys"),
    "doctor": ("doctor", "doctor"),
    "explain": ("explain", "explain"),
    "config": ("service", "config"),
    "schema": ("schema", "schema"),
    "simulator": ("service", "simulator"),
    "completion": ("completing", "completion"),
}


class _CommandsOnDemand(click.Group):
    """A group whose commands are imported one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"otpost_worker.cli.{module}"), name)
        assert isinstance(command, click.Command)  # noqa: S101 - the table above is wrong otherwise
        return command


@click.group(cls=_CommandsOnDemand, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(otpost.__version__, prog_name="otpost")
def otpost_command() -> None:
    """Send one-time passwords over WhatsApp: nothing lost, nothing late, nothing twice, nothing leaked.

    Settings are environment variables OTPOST_…; 'otpost config' lists them.
    """


def run() -> int:
    """Run the command line and return its exit status: 0 done, 1 failed, 2 misused."""
    quiet_libraries()
    try:
        # Commands tell their exit status by returning it; click's own way would be an exception.
        return int(otpost_command.main(prog_name="otpost", standalone_mode=False) or 0)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough.
        sys.stderr.close()
        return 1
    except (OtpostError, LedgerUnavailable, InvalidSettings) as error:
        complain(*error.problems if isinstance(error, InvalidSettings) else (error,))
        return 1
