"""Every balance from history alone: on the local chain as its user runs it, and over markets played at random."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner
from solders.account import Account

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.chain.bank import Bank
from gridtokenx_pipelines.chain.client import ChainClient
from gridtokenx_pipelines.chain.idl import Program
from gridtokenx_pipelines.chain.localnet import program_files
from gridtokenx_pipelines.chain.localnet_process import LocalnetProcess
from gridtokenx_pipelines.chain.outbox import OutboxItem
from gridtokenx_pipelines.chain.rebuild.history import HistoryGap, decoder, told
from gridtokenx_pipelines.chain.rebuild.registry import RegistryLedger
from gridtokenx_pipelines.chain.rebuild.trading import TradingLedger
from gridtokenx_pipelines.chain.run_steps import Missing, RunSteps
from gridtokenx_pipelines.chain_cli.commands import chain
from gridtokenx_pipelines.market.orders import Side
from gridtokenx_pipelines.settlement.batches import RunPlan
from tests.chain.play import Play
from tests.chain.settled_world import FIRST_EPOCH, RUN_KEYS, SmallMarket
from tests.chain.svm import Chain
from tests.chain.test_play import dice
from tests.chain.test_programs_trading_pay_as_bid import Street

NOTHING_THERE = Missing(epoch=True, metered=True, metering_root=True, root=True)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with two settled epochs, trades, a signed order, a bill."""
    folder = tmp_path_factory.mktemp("rebuilt")
    with LocalnetProcess(folder, slot_ms=50) as process, ChainClient(process.url) as client:
        market = SmallMarket(client)
        market.bring_up()
        signed = market.order(1, Side.BUY, 200, 4_000_000, FIRST_EPOCH)
        first = market.initial(FIRST_EPOCH, [(900, 100), (0, 700), (50, 400)], trade=(0, 1, 500), orders=[signed])
        second = market.initial(FIRST_EPOCH + 1, [(0, 300), (800, 0), (0, 10)], trade=(1, 2, 10))
        for plan in (first, second):
            send(client, market, plan)
    return folder


def send(client: ChainClient, market: SmallMarket, plan: RunPlan) -> None:
    assert market.lookup is not None
    steps = RunSteps(RUN_KEYS, market.lookup)
    stages: list[list[OutboxItem]] = [
        steps.prepare(plan, NOTHING_THERE),
        steps.registry_batches(plan),
        [steps.commit(plan)],
        steps.records(plan),
        steps.trading_batches(plan),
        [steps.finalize(plan)],
    ]
    for items in stages:
        for item in items:
            client.send_and_confirm(item.instructions, item.payer, item.signers, item.lookup_tables)


def rebuilt(url: str, *options: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(chain, ["rebuild", "--rpc-url", url, *options])
    return result.exit_code, result.stdout, result.stderr


def test_the_history_of_a_settled_chain_explains_every_balance(settled: Path) -> None:
    with LocalnetProcess(settled, slot_ms=50) as process:
        code, out, _ = rebuilt(process.url, "--json")
    found = json.loads(out)
    assert (code, found["differences"]) == (0, [])
    assert (found["traders"], found["meters"]) == (3, 3)
    assert found["values"] == 3 * 3 + 3 * 6 + 15 + 5


@pytest.mark.parametrize(
    ("program", "name", "address", "field", "by"),
    [
        ("trading", "Trader", "trader", "thbc_uthb", 1),
        ("trading", "Trader", "trader", "grid_wh", 1),
        ("registry", "Meter", "meter", "minted_wh", 1_000),
        ("trading", "Market", "market", "platform_thbc_uthb", 7),
    ],
)
def test_an_account_that_its_history_does_not_explain_is_named_and_the_exit_code_says_so(  # noqa: PLR0917
    settled: Path, tmp_path: Path, program: str, name: str, address: str, field: str, by: int
) -> None:
    market = SmallMarket(ChainClient("http://127.0.0.1:1"))
    at = {
        "trader": addresses.address_of_trader(market.wallets[1].pubkey),
        "meter": addresses.address_of_meter("MEA-000"),
        "market": addresses.market(),
    }[address]
    folder = tmp_path / "tampered"
    folder.mkdir()
    for file in settled.iterdir():
        if file.name != "lock":
            (folder / file.name).write_bytes(file.read_bytes())
    bank = Bank(folder, program_files(), slot_ms=50)
    account = bank.svm.get_account(at)
    assert account is not None
    layout = Program.load(program).layout(name)
    rows = layout.rows([bytes(account.data)]).copy()
    rows[layout._keys[field]] += by
    data = layout.prefix + rows.tobytes()
    bank.svm.set_account(at, Account(account.lamports, data, account.owner, False, 0))
    bank.close()
    with LocalnetProcess(folder, slot_ms=50) as process:
        code, out, err = rebuilt(process.url)
    assert code == 1
    assert "1 differences" in out
    assert f"{name} {at} {field}: the history gives" in err


@pytest.mark.validator
def test_a_real_validator_s_history_explains_every_balance_too(validator_client: ChainClient) -> None:
    market = SmallMarket(validator_client)
    market.bring_up()
    send(validator_client, market, market.initial(FIRST_EPOCH, [(900, 100), (0, 700), (50, 400)], trade=(0, 1, 500)))
    code, out, _ = rebuilt(validator_client.rpc_url)
    assert (code, "0 differences" in out) == (0, True)


# ---- any history


class Told:
    """Every transaction that a chain takes from now on, told to the books."""

    def __init__(self, world: Chain) -> None:
        self.trading, self.registry = TradingLedger(), RegistryLedger()
        self.sent = 0
        self._send, world.send = world.send, self.send  # type: ignore[method-assign]

    def send(self, *instructions, signers=()):  # type: ignore[no-untyped-def]
        receipt = self._send(*instructions, signers=signers)
        self.sent += 1
        calls = [(i.program_id, [meta.pubkey for meta in i.accounts], bytes(i.data)) for i in instructions]
        for program in ("governance", "registry", "energy-token", "trading"):
            books = self.trading if program == "trading" else self.registry
            for item in told(decoder(program), str(self.sent), calls, receipt.logs):
                books.tell(item)
        return receipt


@contextmanager
def heard() -> Iterator[list[Told]]:
    """The chain made within it, told to the books from its first transaction on."""
    first = Chain.send
    found: list[Told] = []

    def send(world, *instructions, signers=()):  # type: ignore[no-untyped-def]
        if not found:
            Chain.send = first  # type: ignore[method-assign]
            found.append(Told(world))
        return world.send(*instructions, signers=signers)

    Chain.send = send  # type: ignore[method-assign, assignment]
    try:
        yield found
    finally:
        Chain.send = first  # type: ignore[method-assign]


class RecordedPlay(Play):
    """A play whose chain is heard from its first transaction on."""

    def __init__(self) -> None:
        with heard() as found:
            super().__init__()
        self.told = found[0]


def act(play: Play, random: Random) -> None:
    """A random legal action."""
    home, other = random.choice(play.homes), random.choice(play.homes)
    limit = lambda: random.randrange(200, 800) * 10_000  # noqa: E731
    actions = [
        lambda: play.deposit(home, random.randrange(1, 60_000_000)),
        lambda: play.request(home, random.randrange(30_000_000), random.randrange(4_000)),
        lambda: play.withdraw(home),
        lambda: play.mandate(home, limit(), limit(), random.randrange(9_000), random.randrange(2)),
        lambda: play.revoke(home),
        lambda: play.place(home, play.last_opened + random.randrange(4), random.randrange(2), limit(), 500),
        lambda: play.match(home, other, random.randrange(8)),
        lambda: play.set_continuous(random.randrange(4) == 0),
        play.resume,
        play.open,
        *[lambda: play.go_on(random)] * 9,
        *[lambda: play.plan_clearing(random)] * 3,
        lambda: play.plan_late(random),
        lambda: play.plan_resettlement(random),
    ]
    random.choice(actions)()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_every_action_of_a_random_play_the_history_gives_every_household_s_balances(seed: int) -> None:
    play = RecordedPlay()
    play.a_day_without_oracles()
    random = dice(seed)
    for _ in range(400):
        act(play, random)
        books = play.told.trading
        for home in play.homes:
            found = books.traders[home.household.trader]
            assert (found.grid_wh, found.thbc_uthb, found.debt_uthb) == (home.grid, home.thbc, home.debt)
    if play.run is None:
        own = ("supplier_grid_wh", "supplier_thbc_uthb", "platform_thbc_uthb", "grid_operator_thbc_uthb")
        market = play.world.market()
        assert [books.market[name] for name in own] == [market[name] for name in own]
    for home in play.homes:
        meter = play.told.registry.meters[home.household.meter]
        chain_says = play.world.read("registry", "Meter", home.household.meter)
        fields = ("production_wh", "consumption_wh", "minted_wh", "deficit_wh", "last_epoch")
        assert [meter[field] for field in fields] == [chain_says[field] for field in fields]


def test_orders_with_values_of_their_own_explain_every_balance_too() -> None:
    with heard() as found:
        street = Street()
    books, world = found[0].trading, street.world
    world.play(street.run(traders_per_batch=1))
    for home in street.homes:
        told_of = books.traders[home.trader]
        assert (told_of.grid_wh, told_of.thbc_uthb, told_of.debt_uthb) == world.balances(home)
    own = ("supplier_grid_wh", "supplier_thbc_uthb", "platform_thbc_uthb", "grid_operator_thbc_uthb")
    market = world.market()
    assert [books.market[name] for name in own] == [market[name] for name in own]


def test_an_event_counts_only_where_its_own_program_logged_it() -> None:
    play = RecordedPlay()
    home = play.homes[0]
    play.deposit(home, 5_000_000)
    [line] = [log for log in play.world.deposit(home.household, 1).logs if log.startswith("Program data: ")]
    stranger = f"{addresses.SYSTEM_PROGRAM}"
    logs = [f"Program {stranger} invoke [1]", line, f"Program {stranger} success"]
    assert list(told(decoder("trading"), "forged", [], logs)) == []
    with pytest.raises(HistoryGap, match="truncated"):
        list(told(decoder("trading"), "cut", [], ["Log truncated"]))
