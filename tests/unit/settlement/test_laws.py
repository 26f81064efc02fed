"""Property: whatever happens to a neighbourhood, every law closes to 0, run by run and in total.

The runs are also computed a second time, wallet by wallet, by a plain port of programs/trading/src/settlement.
"""

from __future__ import annotations

import polars as pl
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridtokenx_pipelines.epochs import epoch_of_key, is_on_peak
from gridtokenx_pipelines.market.rules import Rules
from gridtokenx_pipelines.settlement.double_entry import balances_of
from gridtokenx_pipelines.settlement.frames import BALANCES, MarketAccounts, no_traded
from gridtokenx_pipelines.settlement.laws import laws_from_sums, laws_of_booking, sums_from_rows
from gridtokenx_pipelines.settlement.ledger import book_initial, book_late, book_resettlement
from gridtokenx_pipelines.settlement.resettlement import judge

START = epoch_of_key("2026-01-27T14:30Z")  # two on-peak epochs, then off-peak
RULES = Rules()
METERS = {"m0": "w0", "m1": "w0", "m2": "w1", "m3": "w2", "m4": "w3"}
WALLETS = sorted(set(METERS.values()))
PRICE, WHEELING = 3_333_333, 100_001


def ceil(value: int) -> int:
    return -(-value // 1_000)


class Wallet:
    """The chain program's `Wallet`, in Python."""

    def __init__(self, grid: int, cash: int, debt: int) -> None:
        self.grid, self.cash, self.debt = grid, cash, debt

    def credit(self, amount: int) -> None:
        repaid = min(self.debt, amount)
        self.debt -= repaid
        self.cash += amount - repaid

    def charge(self, amount: int) -> None:
        paid = min(self.cash, amount)
        self.cash -= paid
        self.debt += amount - paid

    def burn_or_bill(self, deficit: int, tariff: int) -> None:
        burned = min(self.grid, deficit)
        self.grid -= burned
        self.charge(ceil((deficit - burned) * tariff))

    def settle(self, net: int, traded: int, tariff: int, buys_back: bool) -> None:
        self.grid += max(net, 0)
        if traded > 0:
            self.cash -= ceil(traded * (PRICE + WHEELING))
            self.grid += traded
        elif traded < 0:
            value = -traded * PRICE // 1_000
            self.grid += traded
            self.credit(value - value // 100)
        if net < 0:
            self.burn_or_bill(-net, tariff)
        elif buys_back and net > max(-traded, 0):
            unsold = net - max(-traded, 0)
            self.grid -= unsold
            self.credit(unsold * RULES.feed_in_uthb_per_kwh // 1_000)

    @property
    def state(self) -> tuple[int, int, int]:
        return self.grid, self.cash, self.debt


class World:
    """A ledger in memory with everything that has been booked."""

    def __init__(self, cash: list[int], supplier: int) -> None:
        self.balances = pl.DataFrame(
            [(wallet, 0, amount, 0) for wallet, amount in zip(WALLETS, cash, strict=True)], BALANCES, orient="row"
        )
        self.accounts = MarketAccounts(supplier_thbc_uthb=supplier, grid_operator_thbc_uthb=10**9)
        self.funded = supplier + 10**9
        self.deposited = sum(cash)
        self.bookings = []
        self.nets: dict[tuple[str, int], int] = {}

    @property
    def seq(self) -> int:
        return len(self.bookings) + 1

    def wallets(self) -> dict[str, Wallet]:
        return {owner: Wallet(*amounts) for owner, *amounts in self.balances.iter_rows()}

    def book(self, booking) -> None:
        laws = laws_of_booking(self.balances, self.accounts, booking)
        assert {law.law: law.difference for law in laws if law.difference} == {}
        assert {key: value for key, value in balances_of(booking.ledger_rows).items() if key[0] == "clearing"} == {}
        assert min(booking.balances.select(pl.exclude("owner").min()).row(0)) >= 0
        self.balances, self.accounts = booking.balances, booking.accounts
        self.bookings.append(booking)

    def entries(self) -> pl.DataFrame:
        return pl.concat([booking.wallet_entries for booking in self.bookings])

    def meter_entries(self) -> pl.DataFrame:
        return pl.concat([booking.meter_entries for booking in self.bookings])

    def left(self, column: str, less: str, where: str) -> pl.DataFrame:
        """Wh per wallet and epoch of `column` in run 0, less what corrections of those epochs used up."""
        entries = self.entries()
        rebilled = entries.filter(pl.col("surplus_epoch").is_not_null()).select(
            "wallet", pl.col("surplus_epoch").alias("epoch"), pl.col("rebilled_wh").alias(column)
        )
        used = entries.filter(pl.col(where).is_not_null()).select(
            "wallet", pl.col(where).alias("epoch"), (-pl.col(less)).alias(column)
        )
        parts = [entries.filter(pl.col("run") == 0).select("wallet", "epoch", column), used]
        if column == "residual_wh":
            parts.append(rebilled)
        return pl.concat(parts).group_by("wallet", "epoch").agg(pl.col(column).sum())


def net_frame(epoch: int, nets: dict[str, int | None], **extra: object) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "meter_id": meter,
                "wallet": METERS[meter],
                "zone_id": 1,
                "epoch": epoch,
                "revision": 0,
                "production_wh": max(net or 0, 0),
                "consumption_wh": max(-(net or 0), 0),
                "net_wh": net or 0,
                "missing": net is None,
                "booked_epoch": epoch,
                **extra,
            }
            for meter, net in nets.items()
        ]
    )


def trades(world: World, nets: dict[str, int], wanted: list[int], lost: int) -> tuple[pl.DataFrame, int]:
    """Wallets with a deficit buy, the others sell, as far as cover goes; `lost` Wh go missing where they can."""
    before = world.wallets()
    present = [wallet for wallet in WALLETS if wallet in nets]
    buys = {
        wallet: min(wanted[place], before[wallet].cash * 1_000 // (PRICE + WHEELING + 1_000))
        for place, wallet in enumerate(present)
        if nets[wallet] < 0
    }
    offers = {
        wallet: min(wanted[place], before[wallet].grid + nets[wallet])
        for place, wallet in enumerate(present)
        if nets[wallet] >= 0
    }
    total = min(sum(buys.values()), max(sum(offers.values()) - lost, 0))
    lost = lost if total else 0
    rows = []
    for side, amounts, left in ((1, buys, total), (-1, offers, total + lost)):
        rest = left
        for wallet, amount in amounts.items():
            wh = min(amount, rest)
            rest -= wh
            if not wh:
                continue
            cost = ceil(wh * (PRICE + WHEELING)) if side > 0 else 0
            energy = wh * PRICE // 1_000 if side > 0 else 0
            value = wh * PRICE // 1_000 if side < 0 else 0
            fee = value // 100
            rows.append((wallet, 1, side * wh, cost, energy, cost - energy, value, fee, value - fee))
    return pl.DataFrame(rows, schema=no_traded().schema, orient="row"), lost


epochs = st.fixed_dictionaries(
    {
        "nets": st.fixed_dictionaries({meter: st.none() | st.integers(-900, 900) for meter in METERS}),
        "wanted": st.lists(st.integers(0, 900), min_size=4, max_size=4),
        "lost": st.integers(0, 20),
        "halted": st.booleans(),
        "buy_back": st.lists(st.booleans(), min_size=4, max_size=4),
    }
)
corrections = st.lists(
    st.tuples(st.sampled_from(sorted(METERS)), st.integers(1, 3), st.integers(-1_000, 1_000)), max_size=8
)


def run_0(world: World, epoch: int, what: dict) -> None:
    present = {meter: net for meter, net in what["nets"].items() if net is not None}
    nets: dict[str, int] = {}
    for meter, net in present.items():
        nets[METERS[meter]] = nets.get(METERS[meter], 0) + net
        world.nets[meter, epoch] = net
    traded, lost = (no_traded(), 0) if what["halted"] else trades(world, nets, what["wanted"], what["lost"])
    rent = sum(traded["cost_uthb"]) - sum(
        sum(traded[name]) for name in ("proceeds_uthb", "fee_uthb", "zone_wheeling_uthb")
    )
    before = world.wallets()
    world.book(
        book_initial(
            seq=world.seq,
            epoch=epoch,
            net_energy=net_frame(epoch, what["nets"]),
            traded=traded,
            buy_back=pl.DataFrame({"wallet": WALLETS, "buy_back": what["buy_back"]}),
            balances=world.balances,
            accounts=world.accounts,
            rules=RULES,
            zones=pl.DataFrame(
                {"zone_id": [1], "price_uthb_per_kwh": [PRICE], "zone_wheeling_uthb_per_kwh": [WHEELING]}
            ),
            lost_wh=lost,
            rent_uthb=rent,
            halted=what["halted"],
        )
    )
    each_traded = dict(traded.select("wallet", "traded_wh").iter_rows())
    buys_back = world.bookings[-1].header.buy_back
    for place, wallet in enumerate(WALLETS):
        if wallet in nets:
            back = buys_back and what["buy_back"][place]
            tariff = RULES.tariff_uthb_per_kwh(epoch)
            before[wallet].settle(nets[wallet], each_traded.get(wallet, 0), tariff, back)
    assert {wallet: each.state for wallet, each in before.items()} == {
        wallet: each.state for wallet, each in world.wallets().items()
    }


def late_run(world: World, first: int, last: int, happenings: list[dict]) -> None:
    rows = [
        net_frame(epoch, {meter: 37 * (place % 5) - 70}, revision=1, booked_epoch=last)
        for place, epoch in enumerate(range(first, last + 1))
        for meter, net in happenings[place]["nets"].items()
        if net is None
    ]
    if not rows:
        return
    frame = pl.concat(rows)
    before = world.wallets()
    world.book(
        book_late(
            seq=world.seq,
            epoch=last,
            run=1,
            net_energy=frame,
            balances=world.balances,
            accounts=world.accounts,
            rules=RULES,
        )
    )
    for wallet in frame["wallet"].unique():
        mine = frame.filter(pl.col("wallet") == wallet)
        classes = {True: 0, False: 0}
        for epoch, net in mine.select("epoch", "net_wh").iter_rows():
            classes[is_on_peak(epoch)] += max(-net, 0)
            before[wallet].grid += max(net, 0)
        before[wallet].burn_or_bill(classes[True], RULES.tariff_on_peak_uthb_per_kwh)
        before[wallet].burn_or_bill(classes[False], RULES.tariff_off_peak_uthb_per_kwh)
    assert {wallet: each.state for wallet, each in before.items()} == {
        wallet: each.state for wallet, each in world.wallets().items()
    }


def resettle(world: World, moved: list[tuple[str, int, int]]) -> int:
    waiting = pl.DataFrame(
        [(meter, METERS[meter], START + step, place + 1, wh, 0) for place, (meter, step, wh) in enumerate(moved)],
        schema={
            "meter_id": pl.String,
            "wallet": pl.String,
            **dict.fromkeys(("boundary_epoch", "revision", "production_delta_wh", "consumption_delta_wh"), pl.Int64),
        },
        orient="row",
    )
    runs = 0
    while True:
        nets = pl.DataFrame(
            [(meter, 1, epoch, net) for (meter, epoch), net in world.nets.items()],
            schema={"meter_id": pl.String, "zone_id": pl.Int64, "epoch": pl.Int64, "net_wh": pl.Int64},
            orient="row",
        )
        verdict = judge(
            corrections=waiting,
            nets=nets,
            residuals=world.left("residual_wh", "refund_wh", "refund_epoch"),
            bought_back=world.left("bought_back_wh", "returned_wh", "surplus_epoch"),
            ratings=dict.fromkeys(METERS, 3_000),
            balances=world.balances,
            accounts=world.accounts,
            rules=RULES,
        )
        key = ["meter_id", "boundary_epoch", "revision"]
        done = waiting.join(verdict.outcomes.filter(pl.col("status") != "rejected"), on=key, how="semi")
        for meter, boundary, wh in done.select("meter_id", "boundary_epoch", "production_delta_wh").iter_rows():
            world.nets[meter, boundary - 1] += wh
            world.nets[meter, boundary] -= wh
        waiting = waiting.join(verdict.outcomes, on=key, how="anti")
        if verdict.epoch is None:
            return runs
        runs += 1
        world.book(
            book_resettlement(
                seq=world.seq,
                epoch=verdict.epoch,
                run=1 + runs,
                shifts=verdict.shifts,
                balances=world.balances,
                accounts=world.accounts,
                rules=RULES,
            )
        )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    happenings=st.lists(epochs, min_size=4, max_size=4),
    cash=st.lists(st.integers(0, 5_000_000), min_size=4, max_size=4),
    supplier=st.sampled_from([0, 500_000, 10**9]),
    moved=corrections,
)
def test_every_law_closes_over_any_sequence_of_runs(happenings, cash, supplier, moved):
    world = World(cash, supplier)
    for step, what in enumerate(happenings):
        run_0(world, START + step, what)
    late_run(world, START, START + 3, happenings)
    resettle(world, moved)
    entries, meters = world.entries(), world.meter_entries()
    whole = sums_from_rows(
        wallet_entries=entries,
        meter_entries=meters,
        balances=world.balances,
        accounts=world.accounts,
        headers=[booking.header for booking in world.bookings],
        deposits=pl.DataFrame({"owner": ["supplier"], "amount_uthb": [world.funded], "debt_repaid_uthb": [0]}),
        ledger={
            **balances_of(pl.concat([booking.ledger_rows for booking in world.bookings])),
            ("external:bridge", "THBC"): -world.funded - world.deposited,
        },
    )
    assert {law.law: law.difference for law in laws_from_sums(whole) if law.difference} == {}
    # what a meter minted is its surplus as corrected, plus what could not be taken back
    rebilled = int(entries["rebilled_wh"].sum())
    on_time = meters.filter(pl.col("kind") != 2)
    assert int(on_time["surplus_wh"].sum()) == sum(max(net, 0) for net in world.nets.values()) + rebilled
    # nobody is refunded more than was billed
    assert world.left("residual_wh", "refund_wh", "refund_epoch")["residual_wh"].min() is None or (
        world.left("residual_wh", "refund_wh", "refund_epoch")["residual_wh"].min() >= 0
    )


@settings(max_examples=20, deadline=None)
@given(what=epochs, cash=st.lists(st.integers(0, 5_000_000), min_size=4, max_size=4), data=st.randoms())
def test_the_order_of_rows_changes_nothing(what, cash, data):
    booked = []
    for shuffled in (False, True):
        world = World(cash, 10**9)
        if shuffled:
            meters = list(what["nets"].items())
            data.shuffle(meters)
            what = {**what, "nets": dict(meters)}
            world.balances = world.balances.sample(fraction=1, shuffle=True, seed=1)
        run_0(world, START, what)
        booked.append(world.bookings[0])
    for name in ("wallet_entries", "meter_entries", "balances"):
        assert getattr(booked[0], name).equals(getattr(booked[1], name))
    assert booked[0].accounts == booked[1].accounts
