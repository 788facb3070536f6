"""The entry point: finds the command, imports its module, runs it, turns errors into one line and an exit code."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import click

from shardraft import __version__, build
from shardraft.cli.failures import EXIT_INTERRUPTED, EXIT_REFUSED, EXIT_USAGE, exit_code_of, leaf_of, line_of
from shardraft.errors import ShardraftError, StorageError

SECTIONS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "Run a cluster": {
        "dev": ("dev", "Start a whole local cluster and watch over it."),
        "host": ("serve", "Start one voter host."),
        "learner": ("serve", "Start one learner, a read replica."),
    },
    "Use a cluster": {
        "get": ("data", "Print the value of a key."),
        "put": ("data", "Store a value under a key."),
        "delete": ("data", "Delete a key."),
        "scan": ("data", "List keys and values."),
        "import": ("transfer", "Store a directory tree or JSON lines."),
        "export": ("transfer", "Write all keys and values as JSON lines."),
        "status": ("status", "Show shards, leaders and learners."),
    },
    "Change a running cluster": {
        "transfer": ("leadership", "Let another host lead a shard."),
        "snapshot": ("snapshot", "Flush state and compact logs now."),
        "member": ("member", "Add, remove or replace hosts."),
    },
    "Examine": {
        "sim": ("sim", "Run a cluster in the simulated world and check its promises."),
    },
}
"""The commands as ``--help`` shows them: name -> (module of this package, what it does)."""

COMMANDS: Final = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


_STDOUT: Final = 1


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is invoked."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"shardraft.cli.{COMMANDS[cmd_name][0]}")
        command = getattr(module, f"{cmd_name}_command")
        assert isinstance(command, click.Command), cmd_name
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"no such command: {args[0]}" + (f"; did you mean {near[0]}?" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message=f"shardraft %(version)s, {build()}")
def group() -> None:
    """A Raft-replicated, sharded key-value store with a tree of read replicas.

    Commands that use a cluster find it by --endpoint or SHARDRAFT_ENDPOINT, and
    without either take the local one that "shardraft dev" runs.

    Exit codes: 1 refused, 2 usage, 3 unavailable, 4 outcome unknown.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; every expected error is one line on stderr."""
    try:
        result = group.main(arguments, prog_name="shardraft", standalone_mode=False)
        if sys.stdout is not None:  # Python has none when the caller closed it (">&-").
            sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return EXIT_USAGE
    except click.ClickException as error:
        return _fail(_usage_line(error), EXIT_USAGE if isinstance(error, click.UsageError) else error.exit_code)
    except SystemExit:
        # What click makes of a broken pipe, and of nothing else in this mode: whoever read our output has
        # seen enough (a pipe into head). Python must not complain at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
        return 0
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BaseExceptionGroup as errors:
        return _fail_with(leaf_of(errors))
    except (ShardraftError, StorageError, OSError) as error:
        return _fail_with(error)
    return result if isinstance(result, int) else 0


def main() -> NoReturn:
    """What the console script ``shardraft`` calls."""
    sys.exit(run())


def _usage_line(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message} (see {context.command_path} --help)" if context is not None else message


def _fail_with(error: BaseException) -> int:
    """The line and code of an error that is expected; any other is a bug and leaves with its traceback."""
    if isinstance(error, KeyboardInterrupt):
        return _fail("interrupted", EXIT_INTERRUPTED)
    if isinstance(error, ShardraftError):
        return _fail(line_of(error), exit_code_of(error))
    if isinstance(error, StorageError | OSError):
        return _fail(line_of(error), EXIT_REFUSED)
    raise error


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code
