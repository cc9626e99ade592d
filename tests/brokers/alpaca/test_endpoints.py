"""The three addresses behind the settings."""

from __future__ import annotations

from typing import Any

import pytest

from trueup.brokers.alpaca.endpoints import Endpoints, endpoints
from trueup.errors import BadInput

ALPACA_DATA = "wss://stream.data.alpaca.markets/v2/"


@pytest.mark.parametrize(
    ("settings", "rest", "trading", "data"),
    [
        ({}, "https://paper-api.alpaca.markets", "wss://paper-api.alpaca.markets/stream", ALPACA_DATA + "iex"),
        ({"live": True}, "https://api.alpaca.markets", "wss://api.alpaca.markets/stream", ALPACA_DATA + "iex"),
        (
            {"alpaca_url": "http://127.0.0.1:8801/", "data_feed": "test"},
            "http://127.0.0.1:8801",
            "ws://127.0.0.1:8801/stream",
            "ws://127.0.0.1:8801/v2/test",
        ),
        (
            {"alpaca_url": "https://paper-api.alpaca.markets", "data_feed": "sip"},
            "https://paper-api.alpaca.markets",
            "wss://paper-api.alpaca.markets/stream",
            ALPACA_DATA + "sip",
        ),
        (
            {"alpaca_url": "http://[::1]:8801", "data_url": "https://data.example"},
            "http://[::1]:8801",
            "ws://[::1]:8801/stream",
            "wss://data.example/v2/iex",
        ),
    ],
)
def test_addresses(settings: dict[str, Any], rest: str, trading: str, data: str) -> None:
    assert endpoints(**settings) == Endpoints(rest=rest, trading_stream=trading, stock_data_stream=data)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"alpaca_url": "localhost:8801"}, "alpaca_url"),
        ({"alpaca_url": "http://127.0.0.1:8801/v2"}, "alpaca_url"),
        ({"alpaca_url": "http://127.0.0.1:port"}, "alpaca_url"),
        ({"data_url": "ftp://data.example"}, "data_url"),
    ],
)
def test_a_wrong_address_names_its_setting(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as caught:
        endpoints(**settings)
    assert caught.value.field == field
    assert "--" + field.replace("_", "-") in str(caught.value)


def test_an_address_of_another_host_that_ends_alike_is_not_alpacas() -> None:
    assert endpoints(alpaca_url="https://notalpaca.markets").stock_data_stream == "wss://notalpaca.markets/v2/iex"
