"""The command line: `trueup demo`, `run`, `simulate`, `sim`, `status`, `orders`, `kill`, `replay` and the rest.

Thin on purpose: commands read arguments, ask `bootstrap` or the gateway, and show the answer.
Invariant: what goes wrong is said in one line on standard error with an exit code of its own; a traceback is shown only
when --debug asks for it.
"""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType
from typing import Annotated

import typer

import trueup
from trueup.cli import account, books, chaos, demo, doctor, history, journal, running, schema, sim
from trueup.cli.output import errors_as_lines, out, say_error

app = typer.Typer(
    name="trueup",
    help="Order truth for live trading: the stream is latency, the broker snapshot is truth.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _version(asked: bool) -> None:
    if asked:
        out.print(f"trueup {trueup.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the whole traceback of an error; works behind any command.")
    ] = False,
) -> None:
    """Order truth for live trading: the stream is latency, the broker snapshot is truth."""


START, WATCH, ACT, KEEP = "Start", "Look", "Act", "Maintain"
app.command(rich_help_panel=START)(demo.demo)
app.command(rich_help_panel=START)(running.run)
app.command(rich_help_panel=START)(running.gateway)
app.command(rich_help_panel=START)(running.simulate)
app.command(rich_help_panel=WATCH)(account.status)
app.add_typer(account.orders_app, name="orders", rich_help_panel=WATCH)
app.command(rich_help_panel=WATCH)(history.explain)
app.command(rich_help_panel=WATCH)(history.drift)
app.command(rich_help_panel=ACT)(account.reconcile)
app.command(rich_help_panel=ACT)(account.kill)
app.command(rich_help_panel=ACT)(account.resume)
app.add_typer(sim.sim_app, name="sim", rich_help_panel=ACT)
app.command(rich_help_panel=KEEP)(books.replay)
app.add_typer(journal.journal_app, name="journal", rich_help_panel=KEEP)
app.command(rich_help_panel=KEEP)(schema.schema)
app.command(rich_help_panel=KEEP)(running.user)
app.command(rich_help_panel=KEEP)(doctor.doctor)
app.command(rich_help_panel=KEEP)(chaos.chaos)


def main() -> None:
    """Run the command line; the process ends with the code that says how it went."""
    arguments = sys.argv[1:]
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = "--debug" in before or os.environ.get("TRUEUP_DEBUG", "") not in ("", "0")
    as_json = "--json" in before
    rest = [word for word in before if word != "--debug"] + arguments[len(before) :]

    def internal(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        if debug:
            traceback.print_exception(kind, error, at)
        else:
            message = f"internal error, {kind.__name__}: {error}; run it again with --debug to see where"
            say_error(message, code="internal", field="", as_json=as_json)

    sys.excepthook = internal
    with errors_as_lines(debug=debug, as_json=as_json):
        # Called as a Typer app it would put its own excepthook over ours.
        typer.main.get_command(app)(args=rest, prog_name="trueup")
