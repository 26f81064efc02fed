"""The oracle program's price and grid feed: medians of fresh reports, and the reference price."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.message import Message
from solders.transaction import Transaction

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.market.prices import reference_price
from gridtokenx_pipelines.market.rules import Rules
from tests.chain.svm import DEPLOYER, EPOCH, ORACLES, START, Chain, ProgramFailedError, Receipt, key

DAY = 86_400
FRESH_SECONDS = 1_800
ZONE = 3
FEED = addresses.price_feed(ZONE)
ENERGY_LIMIT, PRICE_LIMIT = 1 << 43, 1 << 23


@dataclass(frozen=True)
class Price:
    """Return data of get_price."""

    price: int
    reference: int
    demand_wh: int
    supply_wh: int
    epoch: int
    updated_at: int
    fresh: int


@pytest.fixture
def chain() -> Chain:
    return opened()


def opened() -> Chain:
    fresh = Chain()
    fresh.initialize_governance()
    fresh.plant("trading", "Market", addresses.market(), last_opened=EPOCH, time_mode=1)
    return fresh


def report(
    chain: Chain, oracle, price: int = 3_000_000, demand: int = 1_000, supply: int = 1_000, **options
) -> Receipt:
    zone, epoch = options.get("zone", ZONE), options.get("epoch", EPOCH)
    accounts = {"oracle": oracle.pubkey(), "feed": options.get("feed", addresses.price_feed(zone))}
    values = {"epoch": epoch, "zone": zone, "price": price, "demand_wh": demand, "supply_wh": supply}
    return chain.call("oracle", "update_price", accounts, signers=[oracle], **values)


def ask(chain: Chain, feed=FEED) -> Price:
    """The return data; the transaction is simulated after it has been sent, since only a simulation hands it out."""
    instruction = chain.build("oracle", "get_price", {"feed": feed})
    chain.send(instruction)
    chain.svm.expire_blockhash()
    blockhash = chain.svm.latest_blockhash()
    message = Message.new_with_blockhash([instruction], chain.payer.pubkey(), blockhash)
    found = chain.svm.simulate_transaction(Transaction([chain.payer], message, blockhash))
    return Price(*struct.unpack("<IIQQIqB", found.meta().return_data().data.ljust(37, b"\0")))


def refused(name: str, call, *args, **kwargs) -> None:
    with pytest.raises(ProgramFailedError) as failure:
        call(*args, **kwargs)
    assert failure.value.name == name, failure.value


def test_the_price_is_the_median_of_the_oracles_reports(chain: Chain):
    report(chain, ORACLES[0], 3_000_000, 100_000, 400_000)
    refused("StalePrice", ask, chain)
    chain.at(START + 60)
    report(chain, ORACLES[1], 3_500_000, 300_000, 200_000)
    assert ask(chain) == Price(3_250_000, 3_500_000, 200_000, 300_000, EPOCH, START, 2)
    report(chain, ORACLES[2], 3_100_000, 200_000, 800_000)
    assert ask(chain) == Price(3_100_000, 3_375_000, 200_000, 400_000, EPOCH, START, 3)


def test_one_oracle_cannot_move_the_price_beyond_the_others(chain: Chain):
    report(chain, ORACLES[0], 3_000_000)
    report(chain, ORACLES[1], 3_010_000)
    for lie in (1, PRICE_LIMIT - 1):
        report(chain, ORACLES[2], lie, ENERGY_LIMIT - 1, 0)
        found = ask(chain)
        assert 3_000_000 <= found.price <= 3_010_000
        assert (found.demand_wh, found.supply_wh) == (1_000, 1_000)


def test_an_oracles_last_report_counts_and_only_while_it_is_fresh(chain: Chain):
    report(chain, ORACLES[0], 3_000_000)
    report(chain, ORACLES[0], 3_100_000)
    refused("StalePrice", ask, chain)
    chain.at(START + FRESH_SECONDS)
    report(chain, ORACLES[1], 3_200_000)
    assert (ask(chain).price, ask(chain).fresh) == (3_150_000, 2)
    chain.at(START + FRESH_SECONDS + 1)
    refused("StalePrice", ask, chain)
    report(chain, ORACLES[2], 3_300_000)
    assert (ask(chain).price, ask(chain).updated_at) == (3_250_000, START + FRESH_SECONDS)


@pytest.mark.parametrize(
    ("price", "demand", "supply"),
    [(0, 1, 1), (PRICE_LIMIT, 1, 1), (1, ENERGY_LIMIT, 1), (1, 1, ENERGY_LIMIT), (1, 2**64 - 1, 1)],
)
def test_figures_that_could_overflow_are_refused(chain: Chain, price: int, demand: int, supply: int):
    refused("InvalidObservation", report, chain, ORACLES[0], price, demand, supply)


def test_the_largest_figures_give_the_cap(chain: Chain):
    for oracle in ORACLES[:2]:
        report(chain, oracle, PRICE_LIMIT - 1, ENERGY_LIMIT - 1, 1)
    found = ask(chain)
    assert (found.price, found.reference) == (PRICE_LIMIT - 1, 8_000_000)


def test_epochs_do_not_run_back_nor_ahead(chain: Chain):
    refused("ObservationOutOfOrder", report, chain, ORACLES[0], epoch=EPOCH + 2)
    refused("ObservationOutOfOrder", report, chain, ORACLES[0], epoch=2**32 - 1)
    report(chain, ORACLES[0], epoch=EPOCH + 1)
    refused("ObservationOutOfOrder", report, chain, ORACLES[0], epoch=EPOCH)
    report(chain, ORACLES[1], epoch=EPOCH)
    assert ask(chain).epoch == EPOCH


def test_strangers_other_zones_and_wrong_feeds_are_refused(chain: Chain):
    refused("Unauthorised", report, chain, key("stranger"))
    refused("InvalidZone", report, chain, ORACLES[0], zone=0)
    refused("InvalidZone", report, chain, ORACLES[0], zone=64)
    refused("WrongAddress", report, chain, ORACLES[0], feed=addresses.price_feed(4))
    report(chain, ORACLES[0])
    refused("WrongAddress", report, chain, ORACLES[0], zone=4, feed=FEED)


def test_reports_of_a_replaced_oracle_set_no_longer_count(chain: Chain):
    for oracle in ORACLES:
        report(chain, oracle)
    new = [ORACLES[1], key("new oracle 1"), key("new oracle 2")]
    accounts, keys = {"authority": DEPLOYER.pubkey()}, [oracle.pubkey() for oracle in new]
    chain.call("governance", "set_oracles", accounts, signers=[DEPLOYER], threshold=2, oracles=keys)
    chain.at(START + DAY)
    refused("StalePrice", ask, chain)
    refused("Unauthorised", report, chain, ORACLES[0])
    report(chain, new[0], 3_000_000)
    refused("StalePrice", ask, chain)
    report(chain, new[1], 3_400_000)
    assert ask(chain).price == 3_200_000


def test_an_instruction_to_a_paused_oracle_program_is_refused(chain: Chain):
    for oracle in ORACLES[:2]:
        report(chain, oracle)
    pause = {"guardian_or_authority": DEPLOYER.pubkey()}
    chain.call("governance", "pause", pause, signers=[DEPLOYER], program=4)
    refused("Paused", report, chain, ORACLES[0])
    refused("Paused", ask, chain)


def test_lamports_sent_to_a_feed_do_not_block_it(chain: Chain):
    chain.svm.airdrop(FEED, 890_880)
    report(chain, ORACLES[0])
    assert chain.read("oracle", "PriceFeed", FEED)["zone"] == ZONE


WH = st.integers(0, ENERGY_LIMIT - 1) | st.integers(0, 10**7)


@settings(max_examples=60, deadline=None)
@given(demand=WH, supply=WH)
def test_the_reference_price_is_that_of_the_market_rules(demand: int, supply: int):
    for oracle in ORACLES[:2]:
        report(CHAIN, oracle, 3_000_000, demand, supply)
    assert ask(CHAIN).reference == reference_price(demand, supply, Rules())


CHAIN = opened()
