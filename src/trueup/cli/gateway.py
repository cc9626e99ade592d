"""Talking to a running trueup over HTTP, and to the simulator's control address in the same way.

Not for showing answers. Invariant: every failure becomes one `CommandFailed` that says what to do next.
"""

from __future__ import annotations

import json
import os
from decimal import Decimal
from types import TracebackType
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer

from trueup.cli import demofile
from trueup.cli.output import (
    EXIT_NO,
    EXIT_NOT_ALLOWED,
    EXIT_TRY_AGAIN,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    CommandFailed,
)

UrlOption = Annotated[
    str | None,
    typer.Option("--url", metavar="ADDRESS", help="Where trueup runs. (default http://127.0.0.1:8000; TRUEUP_URL)"),
]

DEFAULT_URL = "http://127.0.0.1:8000"


class Remote:
    """One HTTP address; `what` names it in errors and `hint` says how to get it running."""

    def __init__(self, url: str, *, what: str, hint: str, token: str = "") -> None:
        if not url.startswith(("http://", "https://")):
            raise CommandFailed(
                f"--url must be a web address such as {DEFAULT_URL}; got {url!r}",
                exit_code=EXIT_USAGE,
                code="bad_input",
                field="url",
            )
        self.url = url.rstrip("/")
        self._what = what
        self._hint = hint
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # A proxy from the environment has no business between this command and its own machine.
        self._client = httpx.Client(headers=headers, timeout=httpx.Timeout(40.0, connect=5.0), trust_env=False)

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._client.close()

    def ask(self, method: str, path: str, *, body: object = None, query: dict[str, Any] | None = None) -> Any:
        """The decoded answer; numbers with a point come as Decimal, so that no digit is lost."""
        return self._decode(self._answered(method, path, body=body, query=query))

    def ask_text(self, method: str, path: str, *, query: dict[str, Any] | None = None) -> str:
        """The answer as it came, JSON with exact numbers."""
        reply = self._answered(method, path, query=query)
        self._decode(reply)
        return reply.text

    def _answered(
        self, method: str, path: str, *, body: object = None, query: dict[str, Any] | None = None
    ) -> httpx.Response:
        try:
            reply = self._client.request(
                method,
                self.url + path,
                params={name: value for name, value in (query or {}).items() if value is not None},
                content=None if body is None else json.dumps(body, default=str),
                headers={} if body is None else {"Content-Type": "application/json"},
            )
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise CommandFailed(
                f"{self._what} does not answer at {self.url}; {self._hint}",
                exit_code=EXIT_UNAVAILABLE,
                code="unreachable",
            ) from None
        except httpx.TimeoutException:
            raise CommandFailed(
                f"{self._what} at {self.url} took too long to answer; whether it did what was asked is unknown",
                exit_code=EXIT_TRY_AGAIN,
                code="timeout",
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise CommandFailed(
                f"{self._what} at {self.url} can't be talked to: {error}",
                exit_code=EXIT_UNAVAILABLE,
                code="unreachable",
            ) from None
        if reply.is_success:
            return reply
        raise self._refusal(reply, self._decode(reply))

    def _decode(self, reply: httpx.Response) -> Any:
        if not reply.content:
            return None
        try:
            return json.loads(reply.content, parse_float=Decimal)
        except ValueError:
            if not reply.is_success:
                return None
            raise CommandFailed(
                f"what answers at {self.url} is not {self._what}; {self._hint}",
                exit_code=EXIT_UNAVAILABLE,
                code="unreachable",
            ) from None

    def _refusal(self, reply: httpx.Response, answer: Any) -> CommandFailed:
        told = answer.get("error") if isinstance(answer, dict) else None
        if isinstance(told, dict):
            message = str(told.get("message") or "refused")
            code = str(told.get("code") or "refused")
            field = str(told.get("field") or "")
        else:
            text = answer.get("message") if isinstance(answer, dict) else None
            message = str(text or f"{self._what} answered {reply.status_code} {reply.reason_phrase}")
            code, field = "refused", ""
        exit_code = {401: EXIT_NOT_ALLOWED, 403: EXIT_NOT_ALLOWED, 429: EXIT_TRY_AGAIN, 503: EXIT_TRY_AGAIN}
        if reply.status_code == 401:
            message += "; set TRUEUP_TOKEN to the token that trueup was started with"
        return CommandFailed(message, exit_code=exit_code.get(reply.status_code, EXIT_NO), code=code, field=field)


def gateway(url: str | None) -> Remote:
    """The running trueup that commands talk to.

    A demo elsewhere is named and never taken instead: a kill that is meant for an account must not end at a toy.
    """
    address = url or os.environ.get("TRUEUP_URL") or DEFAULT_URL
    demo = demofile.find()
    hint = "start it with `trueup demo` or `trueup run`, or say where it is with --url"
    if demo is not None and demo.gateway_url != address:
        hint = f"the demo is at {demo.gateway_url}: say so with --url or TRUEUP_URL"
    return Remote(
        address,
        what="trueup",
        hint=hint,
        token=os.environ.get("TRUEUP_TOKEN", ""),
    )


def segment(text: str) -> str:
    """One part of a path, with every character that could end it made harmless."""
    return quote(text, safe="")
