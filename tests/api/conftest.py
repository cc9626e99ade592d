"""A running house and a client at its door."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from tests.api.house import House, http_client, running_house


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with running_house() as built:
        await built.start()
        yield built


@pytest.fixture
async def client(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with http_client(house) as made:
        yield made
