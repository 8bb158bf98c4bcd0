"""The command line: parses, calls, prints."""

from __future__ import annotations

import sys

import click

import otpost
from otpost.errors import OtpostError
from otpost_worker.cli import completing, dead, doctor, explain, keys, results, schema, send, service, topology
from otpost_worker.cli.context import complain
from otpost_worker.ports import LedgerUnavailable
from otpost_worker.settings import InvalidSettings
from otpost_worker.telemetry import quiet_libraries


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(otpost.__version__, prog_name="otpost")
def otpost_command() -> None:
    """Send one-time passwords over WhatsApp: nothing lost, nothing late, nothing twice, nothing leaked.

    Settings are environment variables OTPOST_…; 'otpost config' lists them.
    """


otpost_command.add_command(send.send)
otpost_command.add_command(service.worker)
otpost_command.add_command(results.results)
otpost_command.add_command(dead.dead)
otpost_command.add_command(topology.topology)
otpost_command.add_command(keys.keys)
otpost_command.add_command(doctor.doctor)
otpost_command.add_command(explain.explain)
otpost_command.add_command(service.config)
otpost_command.add_command(schema.schema)
otpost_command.add_command(service.simulator)
otpost_command.add_command(completing.completion)


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
