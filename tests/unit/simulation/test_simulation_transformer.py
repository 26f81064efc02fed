"""The transformer's own meter: meters plus losses equal it, and only its own key's documents are stored."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from nacl.signing import SigningKey

from gridtokenx_pipelines.epochs import EPOCH_US, epoch_of_key, start_us
from gridtokenx_pipelines.grid.case import GridCase
from gridtokenx_pipelines.grid.states import W_PER_WH, flow
from gridtokenx_pipelines.metering.readings import Reading, encode, sign_reading
from gridtokenx_pipelines.simulation.neighbourhood import Neighbourhood
from gridtokenx_pipelines.simulation.network_case import case_of_neighbourhood
from gridtokenx_pipelines.simulation.registers import Registers
from gridtokenx_pipelines.simulation.transformer import TRANSFORMER_ID, transformer_documents, transformer_key
from gridtokenx_pipelines.store.postgres import engine
from gridtokenx_pipelines.store.transformer import Document, TransformerRefused, exchange_between, register, take

START, EPOCHS = epoch_of_key("2026-06-14T20:00Z"), 60  # night, a sunny day: import and export
Make = Callable[..., Neighbourhood]


@pytest.fixture(scope="module")
def home(neighbourhood_of: Make) -> Neighbourhood:
    return neighbourhood_of()


@pytest.fixture(scope="module")
def case(home: Neighbourhood, grid_cache: Path) -> GridCase:
    return case_of_neighbourhood(home, grid_cache)


@pytest.fixture(scope="module")
def documents(home: Neighbourhood, case: GridCase) -> list[Document]:
    return [
        Document(value=value, signature=signature)
        for value, signature in transformer_documents(home, case, START, EPOCHS)
    ]


def test_meters_plus_losses_equal_the_transformer_in_every_epoch(
    home: Neighbourhood, case: GridCase, documents: list[Document]
) -> None:
    read = [msgspec.json.decode(each.value, type=Reading) for each in documents]
    assert [each.timestamp_us for each in read] == [start_us(START + step) for step in range(EPOCHS + 1)]
    registers = Registers(home, START, EPOCHS)
    columns = case.columns()
    exported = 0
    for step in range(EPOCHS):
        ends = [
            [registers.at(place, (START + step + end) * EPOCH_US) for place in range(len(home.meters))]
            for end in (0, 1)
        ]
        produced, consumed = (sum(b[k] - a[k] for a, b in zip(*ends, strict=True)) for k in (0, 1))
        drawn = read[step + 1].production_wh - read[step].production_wh
        fed = read[step + 1].consumption_wh - read[step].consumption_wh
        assert drawn == 0 or fed == 0
        exported += fed
        powers = np.zeros((2, len(columns)))
        for place, meter in enumerate(home.meters):
            powers[:, columns[meter.meter_id]] = registers.power_w(place, START + step)
        lost = float(flow(case, powers[0], powers[1]).loss_mw[0]) * 10**6 / W_PER_WH
        # each register is floored to a Wh at both ends
        assert abs(drawn + produced - consumed - fed - lost) < len(home.meters) + 2
    assert exported > 0


def test_registers_are_stored_once_and_say_what_each_epoch_exchanged(
    home: Neighbourhood, documents: list[Document], postgres_url: str
) -> None:
    with engine(postgres_url).begin() as connection:
        assert exchange_between(connection, START, START + EPOCHS).is_empty()
        register(connection, TRANSFORMER_ID, bytes(transformer_key(home).verify_key))
        assert take(connection, documents[:5], home.network_id) == 5
        assert take(connection, documents[:6], home.network_id) == 1
        read = [msgspec.json.decode(each.value, type=Reading) for each in documents[:6]]
        found = exchange_between(connection, START, START + EPOCHS)
    expected = [
        (START + step, b.production_wh - a.production_wh, b.consumption_wh - a.consumption_wh)
        for step, (a, b) in enumerate(itertools.pairwise(read))
    ]
    assert found.equals(pl.DataFrame(expected, schema=found.schema, orient="row"))


def test_an_epoch_counts_only_where_every_transformer_has_both_its_registers(
    home: Neighbourhood, documents: list[Document], postgres_url: str
) -> None:
    with engine(postgres_url).begin() as connection:
        register(connection, TRANSFORMER_ID, bytes(transformer_key(home).verify_key))
        register(connection, "TRANSFORMER-2", bytes(home.keys.stranger("second").verify_key))
        take(connection, documents, home.network_id)
        assert exchange_between(connection, START, START + EPOCHS).is_empty()


def signed(home: Neighbourhood, key: SigningKey, **changes: object) -> Document:
    fields = {
        "meter_id": TRANSFORMER_ID, "zone_id": 1, "seq": 9, "timestamp": start_us(START + 2), "production_wh": 10**9,
        "consumption_wh": 10**9, "voltage_v": 230.0, "current_a": 1.0, "power_factor": 1.0, "frequency_hz": 50.0,
    }  # fmt: skip
    value = encode(Reading(**fields | changes))  # type: ignore[arg-type]
    return Document(value=value, signature=dict(sign_reading(value, home.network_id, key))["sig"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"meter_id": "TRANSFORMER-9"}, "must be a registered one"),
        ({"timestamp": start_us(START) + 1}, "must be an epoch's start"),
        ({}, "stand at .* must be one pair an instant"),
        ({"timestamp": start_us(START + 9), "production_wh": 0}, "never run back"),
        ({"timestamp": start_us(START - 9)}, "never run back"),
    ],
)
def test_what_is_no_register_of_it_is_refused_by_name(
    home: Neighbourhood, documents: list[Document], postgres_url: str, changes: dict[str, object], words: str
) -> None:
    key = transformer_key(home)
    with engine(postgres_url).begin() as connection:
        register(connection, TRANSFORMER_ID, bytes(key.verify_key))
        take(connection, documents[:4], home.network_id)
        with pytest.raises(TransformerRefused, match=words):
            take(connection, [signed(home, key, **changes)], home.network_id)


def test_another_keys_signature_and_another_key_are_refused(home: Neighbourhood, postgres_url: str) -> None:
    stranger = home.keys.stranger("thief")
    with engine(postgres_url).begin() as connection:
        register(connection, TRANSFORMER_ID, bytes(transformer_key(home).verify_key))
        with pytest.raises(TransformerRefused, match="did not verify"):
            take(connection, [signed(home, stranger)], home.network_id)
        with pytest.raises(TransformerRefused, match="a replaced device gets a new id"):
            register(connection, TRANSFORMER_ID, bytes(stranger.verify_key))
        block = Document(value=b"[]", signature=bytes(64))
        with pytest.raises(TransformerRefused, match="must be one reading"):
            take(connection, [block], home.network_id)
