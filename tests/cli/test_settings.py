"""The settings table: a bad value is one line that names the setting, and the written reference is the table's own."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from trueup import settings
from trueup.errors import BadInput
from trueup.settings import Settings, read_settings, table, unknown_names

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def test_reference_is_what_the_table_says() -> None:
    assert REFERENCE.read_text(encoding="utf-8") == settings.markdown(), (
        "run `trueup schema --settings --out docs/reference/settings.md`"
    )


def test_defaults_are_the_settings_of_an_empty_environment() -> None:
    assert read_settings({}, {}) == Settings()


def test_every_setting_has_a_reason_a_unit_and_an_environment_name() -> None:
    rows = table()
    assert [row.name for row in rows] == [item.name for item in fields(Settings)]
    for row in rows:
        assert len(row.why) > 20, row.name
        assert row.why.endswith("."), row.name
        assert row.unit, row.name
        assert row.env == row.env.upper()
    assert len({row.env for row in rows}) == len(rows)


def test_by_hand_goes_before_the_environment_and_that_before_the_default() -> None:
    environment = {"TRUEUP_PORT": "9000", "TRUEUP_ORDERS_POLL_S": "3"}
    read = read_settings(environment, {"port": "9001"})
    assert (read.port, read.orders_poll_s, read.reconcile_s) == (9001, 3.0, 300.0)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("port", "abc", "whole number from 1 to 65535"),
        ("port", "0", "whole number from 1 to 65535"),
        ("port", "65536", "whole number from 1 to 65535"),
        ("port", "80.5", "whole number from 1 to 65535"),
        ("port", "٨٠", "whole number from 1 to 65535"),
        ("broker", "alpca", "did you mean alpaca?"),
        ("strategy", "x", "one of none, sma_cross"),
        ("alpaca_url", "localhost:8801", "web address such as http://"),
        ("alpaca_url", "ftp://somewhere", "web address such as http://"),
        ("alpaca_url", "http://", "web address such as http://"),
        ("alpaca_url", "http://here:99999", "web address such as http://"),
        ("alpaca_url", "http://[::1", "web address such as http://"),
        ("alpaca_url", "https://paper-api.alpaca.markets/v2", "without /v2"),
        ("symbols", "AAPL MSFT", "commas between them"),
        ("symbols", "AAPL,<b>", "'<B>' is no symbol"),
        ("symbols", ",".join(f"A{number}" for number in range(501)), "at most 500"),
        ("orders_poll_s", "0", "number of seconds from 0.2 to 3600"),
        ("orders_poll_s", "nan", "number of seconds"),
        ("orders_poll_s", "1e3", "number of seconds"),
        ("orders_poll_s", "-5", "number of seconds"),
        ("requests_per_minute", "5", "whole number from 10"),
        ("live", "perhaps", "yes or no"),
        ("host", "my host", "host name or address"),
        ("log_level", "loud", "one of debug, info, warning, error"),
    ],
)
def test_a_bad_value_is_one_line_that_names_the_setting_and_what_is_right(name: str, value: str, says: str) -> None:
    with pytest.raises(BadInput) as raised:
        read_settings({}, {name: value})
    message = str(raised.value)
    assert message.startswith(f"{name} must ")
    assert says in message
    assert "\n" not in message
    assert raised.value.field == name


def test_a_bad_value_from_the_environment_is_named_as_it_is_written_there() -> None:
    with pytest.raises(BadInput, match=r"^TRUEUP_PORT must be a whole number"):
        read_settings({"TRUEUP_PORT": "x"}, {})


def test_a_secret_is_never_repeated_in_an_error_or_a_repr() -> None:
    with pytest.raises(BadInput) as raised:
        read_settings({"TRUEUP_TOKEN": "hunter2"}, {})
    assert "hunter2" not in str(raised.value)
    read = read_settings({"APCA_API_SECRET_KEY": "open-sesame", "TRUEUP_TOKEN": "a-token-that-is-long"}, {})
    assert read.alpaca_secret == "open-sesame"
    assert "sesame" not in repr(read)
    assert "a-token" not in repr(read)


def test_an_unknown_setting_is_refused_with_the_likely_one() -> None:
    with pytest.raises(BadInput, match="prot is no setting; did you mean port"):
        read_settings({}, {"prot": "1"})


def test_a_mistyped_environment_name_is_noticed() -> None:
    assert unknown_names({"TRUEUP_PROT": "1", "TRUEUP_PORT": "1", "PATH": "x", "TRUEUP_URL": "x"}) == [
        "TRUEUP_PROT is no setting; did you mean TRUEUP_PORT?"
    ]


def test_values_are_parsed_into_what_they_are() -> None:
    read = read_settings({}, {"symbols": " aapl, brk.b ,AAPL", "live": "Yes", "alpaca_url": "http://127.0.0.1:1/"})
    assert read.symbols == ("AAPL", "BRK.B")
    assert read.live is True
    assert read.alpaca_url == "http://127.0.0.1:1"
