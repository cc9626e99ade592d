"""`trueup schema`: the documents that are generated from the code, so that they can't disagree with it.

Not for generating them (`bus/schema.py` and `settings.py` do). Invariant: the same code gives the same bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from trueup import settings
from trueup.cli.output import EXIT_USAGE, CommandFailed, JsonFlag, emit, emit_text, note


def schema(
    json_schema: Annotated[bool, typer.Option("--json-schema", help="JSON Schema of every channel (default).")] = False,
    typescript: Annotated[bool, typer.Option("--typescript", help="TypeScript types, web/src/api/types.ts.")] = False,
    asyncapi: Annotated[bool, typer.Option("--asyncapi", help="AsyncAPI 3 document of the websocket.")] = False,
    settings_: Annotated[bool, typer.Option("--settings", help="The settings reference in Markdown.")] = False,
    file: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it there.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Print what clients need to know: channel schemas, TypeScript types, AsyncAPI, settings."""
    from trueup import bootstrap

    asked = [name for name, flag in (("t", typescript), ("a", asyncapi), ("s", settings_), ("j", json_schema)) if flag]
    if len(asked) > 1:
        message = "choose one of --json-schema, --typescript, --asyncapi and --settings"
        raise CommandFailed(message, exit_code=EXIT_USAGE, code="bad_input", field="schema")
    if typescript:
        text = bootstrap.typescript()
    elif settings_:
        text = settings.markdown()
    else:
        text = json.dumps(bootstrap.asyncapi() if asyncapi else bootstrap.json_schema(), indent=2) + "\n"
    if as_json and (typescript or settings_):
        text = json.dumps({"text": text}) + "\n"
    if file is None:
        emit_text(text)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(
            f"{file} can't be written ({error.strerror}); give another file with --out",
            exit_code=EXIT_USAGE,
            code="bad_input",
            field="out",
        ) from None
    if as_json:
        emit({"written": str(file)})
    else:
        note(f"written: {file}")
