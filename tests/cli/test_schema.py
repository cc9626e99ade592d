"""`trueup schema`: what clients generate their code from."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run

from trueup.core.views import Channel


def test_json_schema_and_asyncapi_name_every_channel(trueup: Run) -> None:
    for arguments in ([], ["--json-schema"], ["--asyncapi"]):
        answer = trueup("schema", *arguments)
        assert answer.code == 0, answer.err
        text = json.dumps(json.loads(answer.out))
        for channel in Channel:
            assert f'"{channel.value}"' in text


def test_a_document_can_be_written_to_a_file(trueup: Run, tmp_path: Path) -> None:
    for flag, name in (("--typescript", "types.ts"), ("--settings", "settings.md"), ("--asyncapi", "api.json")):
        file = tmp_path / name
        answer = trueup("schema", flag, "--out", str(file))
        assert answer.code == 0, answer.err
        assert answer.out == ""
        assert file.read_text(encoding="utf-8") == trueup("schema", flag).out
    assert "interface PortfolioView" in (tmp_path / "types.ts").read_text(encoding="utf-8")


def test_a_file_that_cannot_be_written_is_one_line(trueup: Run, tmp_path: Path) -> None:
    answer = trueup("schema", "--typescript", "--out", str(tmp_path / "none" / "types.ts"))
    assert answer.code == 2
    assert "give another file with --out" in answer.err
    assert answer.err.count("\n") == 1


def test_two_documents_at_once_are_refused(trueup: Run) -> None:
    answer = trueup("schema", "--typescript", "--asyncapi")
    assert answer.code == 2
    assert "choose one" in answer.err
