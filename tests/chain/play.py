"""A market played on a LiteSVM beside a model of it in plain integers: who did what, and what it may cost whom.

Belongs here: the model (balances by domain §6 and §7, mandates and orders by whom they were given), legal runs drawn
from a random source, every legal action on both. Does not belong here: which action when (test_play.py), what thieves
try (thieves.py). A balance of the model falls in three places only: `_settle`, `_settle_late`, `_resettle` (own
mandate, own order, own metered deficit and bill), `match` (own orders) and `withdraw`; so a balance on the chain that
fell otherwise differs from the model's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from struct import pack

from solders.account import Account

from gridtokenx_pipelines.chain import addresses
from gridtokenx_pipelines.epochs import is_on_peak
from tests.chain.svm import CLEARING, DEPLOYER, EPOCH, LATE, PARAMS, RESETTLEMENT, START, ProgramFailedError
from tests.chain.trading_world import BUY, BUY_BACK, SELL, THB, Household, Run, World, Zone, order

NEVER = 2**32 - 1
WHEELING = 200_000
ON_PEAK, OFF_PEAK, FEED_IN = PARAMS["tariff_on_peak"], PARAMS["tariff_off_peak"], PARAMS["feed_in"]
FEE_BP = PARAMS["fee_bp"]
RATING_WH, SHIFT_WH = 5_000, 60_000 * 11 // 40
DAY = 96


def up(value: int, by: int = 1_000) -> int:
    return -(-value // by)


@dataclass
class Home:
    """What the model knows of a household."""

    household: Household
    zone: int
    grid: int = 0
    thbc: int = 0
    debt: int = 0
    outside_thbc: int = 0
    outside_grid: int = 0
    pending: tuple[int, int, int] | None = None
    mandates: dict[int, dict[str, int]] = field(default_factory=dict)
    orders: list[dict[str, int]] = field(default_factory=list)
    last_epoch: int = EPOCH - 1
    minted: int = 0
    deficit: int = 0
    residual: int = 0

    def mandate_at(self, epoch: int) -> dict[str, int] | None:
        """The mandate last given for the epoch, if it has not ended."""
        begun = [start for start in self.mandates if start <= epoch]
        found = self.mandates[max(begun)] if begun else None
        return found if found and epoch < found["end"] else None

    def cover(self, epoch: int) -> tuple[int, int]:
        """GRID and THBC that may stand behind orders of the epoch."""
        thbc, grid, since = self.pending or (0, 0, NEVER)
        return (self.grid, self.thbc) if epoch <= since else (max(0, self.grid - grid), max(0, self.thbc - thbc))

    def credit(self, amount: int) -> int:
        """Debt first; returns what was repaid."""
        repaid = min(self.debt, amount)
        self.debt -= repaid
        self.thbc += amount - repaid
        return repaid

    def charge(self, amount: int) -> int:
        """Returns what was paid at once; the rest is debt."""
        paid = min(self.thbc, amount)
        self.thbc -= paid
        self.debt += amount - paid
        return paid


@dataclass
class Accounts:
    """The market's own accounts."""

    supplier_grid: int = 0
    supplier: int = 0
    platform: int = 0
    grid_operator: int = 0


class Play:
    """One market and its model. A legal action is taken by the chain, or refused for one of the reasons named."""

    def __init__(self, homes: int = 4) -> None:
        self.world = World()
        # rent of all epochs to come
        self.world.svm.set_account(self.world.payer.pubkey(), Account(10**15, b"", addresses.SYSTEM_PROGRAM, False, 0))
        self.now = START
        self.last_opened, self.settled = EPOCH - 1, EPOCH - 1
        self.seq, self.run, self.stage, self.todo = 0, None, "", []  # type: ignore[var-annotated]
        self.effects: list[tuple[int, tuple[int, ...]]] = []
        self.last_run: dict[int, int] = {}
        self.own = Accounts()
        self.continuous = (NEVER, 0)
        self.prices: list[tuple[int, int]] = []
        self.halted = False
        self.market_orders = 0
        self.refs = 0
        self.steps = 0
        self.homes = [Home(self.world.household(f"play {i}", 1 + i % 2, 0, EPOCH), 1 + i % 2) for i in range(homes)]
        for account, amount in ((0, 50_000 * THB), (2, 1_000 * THB)):
            self.world.fund(self.homes[0].household, account, amount)
        self.own.supplier, self.own.grid_operator = 50_000 * THB, 1_000 * THB
        self.open()

    # ---- what both must say

    def check(self) -> None:
        """Every balance is the model's; between runs every conservation law closes."""
        self.steps += 1
        for home in self.homes:
            found = self.world.balances(home.household)
            assert found == (home.grid, home.thbc, home.debt), (home.household.meter_id, found, home)
            assert home.debt == 0 or home.thbc == 0, "who owes has nothing left to pay with"
        market = self.world.market()
        inside = market["deposited_uthb"] + market["funded_uthb"] - market["withdrawn_uthb"]
        assert self.world.token_amount(addresses.thbc_vault()) == inside
        if self.run is None:
            self.world.assert_laws([home.household for home in self.homes])
            held = ("supplier_grid_wh", "supplier_thbc_uthb", "platform_thbc_uthb", "grid_operator_thbc_uthb")
            own = self.own
            expected = (own.supplier_grid, own.supplier, own.platform, own.grid_operator)
            assert tuple(market[name] for name in held) == expected

    def taken(self, call, *args, refusals: tuple[str, ...] = (), **kwargs) -> bool:  # type: ignore[no-untyped-def]
        """Whether the chain took a legal action; AssertionError for a refusal that is not among these."""
        try:
            call(*args, **kwargs)
        except ProgramFailedError as failure:
            assert failure.name in refusals, (failure.name, call, args, kwargs)
            return False
        return True

    # ---- time

    def later(self, seconds: int) -> None:
        self.now += seconds
        self.world.at(self.now)

    def open(self) -> None:
        self.later(900)
        self.last_opened += 1
        self.world.open(self.last_opened)
        self.last_run[self.last_opened] = 0

    # ---- households

    def deposit(self, home: Home, amount: int) -> None:
        self.world.deposit(home.household, amount)
        self.own.supplier += home.credit(amount)

    def deposit_grid(self, home: Home, amount: int) -> None:
        held = amount <= home.outside_grid
        refusals = self.behind or (() if held else NOT_HELD)
        if self.taken(self.world.deposit_grid, home.household, amount, refusals=refusals):
            assert held and not self.behind
            home.outside_grid -= amount
            home.grid += amount

    @property
    def behind(self) -> tuple[str, ...]:
        """What moves of balances are refused with while an epoch that has ended waits to be settled."""
        return ("EndedEpochUnsettled",) if self.settled + 1 < self.last_opened else ()

    def request(self, home: Home, thbc: int, grid: int) -> None:
        # never more than there is
        thbc, grid = min(thbc, home.thbc), min(grid, home.grid)
        nothing = not thbc and not grid
        refusals = ("ZeroAmount",) if nothing else (("WithdrawalPending",) if home.pending else ())
        if self.taken(self.world.request, home.household, thbc, grid, refusals=refusals):
            assert not refusals
            home.pending = (thbc, grid, self.last_opened)

    def withdraw(self, home: Home) -> None:
        """Its own withdrawal lowers a balance: by what was asked for, as far as it is still there."""
        if home.pending is None:
            assert not self.taken(self.world.withdraw, home.household, refusals=("NoWithdrawal",))
            return
        thbc, grid, since = home.pending
        due = self.settled >= since
        touched = self.run is not None and any(self.homes[i] is home for i, _ in self.effects)
        refusals = ("WithdrawalTooEarly",) if not due else (("RunNotFinalised",) if touched else ())
        if self.taken(self.world.withdraw, home.household, refusals=(*refusals, *self.behind)):
            assert due and not self.behind
            thbc, grid = min(thbc, home.thbc), min(grid, home.grid)
            home.thbc -= thbc
            home.grid -= grid
            home.outside_thbc += thbc
            home.outside_grid += grid
            home.pending = None

    def mandate(self, home: Home, sell_min: int, buy_max: int, max_wh: int, buy_back: int) -> None:
        terms = {"sell_min": sell_min, "buy_max": buy_max, "max_wh": max_wh, "buy_back": buy_back}
        if self.taken(self.world.mandate, home.household, **terms, refusals=("MandatePending",)):
            home.mandates[self.last_opened + 1] = terms | {"end": NEVER}

    def revoke(self, home: Home) -> None:
        wallet = home.household.wallet
        named = {"wallet": wallet.pubkey(), "trader": home.household.trader}
        refusals = () if home.mandates else ("NoMandate",)
        if self.taken(self.world.call, "trading", "revoke_mandate", named, signers=[wallet], refusals=("NoMandate",)):
            assert not refusals
            home.mandates.pop(self.last_opened + 1, None)
            for mandate in home.mandates.values():
                mandate["end"] = min(mandate["end"], self.last_opened + 1)

    def place(self, home: Home, epoch: int, side: int, limit: int, energy: int) -> None:
        wallet = home.household.wallet
        named = {"wallet": wallet.pubkey(), "trader": home.household.trader}
        terms = {"epoch": epoch, "side": side, "limit": limit, "energy_wh": energy}
        refusals = ("SelfTrade", "NoSlot", "OrderEpochOutOfRange")
        if self.taken(self.world.call, "trading", "create_order", named, signers=[wallet], **terms, refusals=refusals):
            assert epoch > self.last_opened
            self.market_orders += 1
            same = [o for o in home.orders if (o["epoch"], o["side"], o["limit"]) == (epoch, side, limit)]
            if same:
                same[0]["energy"] += energy
                same[0]["number"] = self.market_orders
            else:
                home.orders = [o for o in home.orders if o["epoch"] > self.settled]
                number = self.market_orders
                home.orders.append({"epoch": epoch, "side": side, "limit": limit, "energy": energy, "number": number})

    def slot_of(self, home: Home, number: int) -> int:
        return self.world.read("trading", "Trader", home.household.trader)["placed"].index(number)

    def cancel(self, home: Home, which: int) -> None:
        standing = [o for o in home.orders if o["epoch"] > self.last_opened]
        wallet = home.household.wallet
        named = {"wallet": wallet.pubkey(), "trader": home.household.trader}
        if not standing:
            call = self.world.call
            assert not self.taken(
                call, "trading", "cancel_order", named, signers=[wallet], slot=which % 8, refusals=("NoSuchOrder",)
            )
            return
        chosen = standing[which % len(standing)]
        slot = self.slot_of(home, chosen["number"])
        self.world.call("trading", "cancel_order", named, signers=[wallet], slot=slot)
        home.orders.remove(chosen)

    # ---- continuous trading

    def set_continuous(self, on: bool) -> None:
        named = {"authority": DEPLOYER.pubkey()}
        start, end = self.continuous
        possible = end != NEVER and self.settled + 1 >= end if on else end == NEVER
        refusals = () if possible else ("InvalidTransition",)
        args = {"on": int(on), "wheeling": WHEELING if on else 0}
        if self.taken(
            self.world.call, "trading", "set_continuous", named, signers=[DEPLOYER], **args, refusals=refusals
        ):
            assert possible
            self.continuous = (self.last_opened + 1, NEVER) if on else (start, self.last_opened + 1)

    def match(self, buyer: Home, seller: Home, which: int) -> None:
        """Anyone brings two orders together; it may lower the two owners' balances only, within their limits."""
        buys = [o for o in buyer.orders if o["side"] == BUY and o["epoch"] > self.last_opened]
        sells = [o for o in seller.orders if o["side"] == SELL and o["epoch"] > self.last_opened]
        if not buys or not sells or buyer is seller:
            return
        buy, sell = buys[which % len(buys)], sells[which % len(sells)]
        named = {"buyer": buyer.household.trader, "seller": seller.household.trader}
        slots = {
            "buy_slot": self.slot_of(buyer, buy["number"]),
            "sell_slot": self.slot_of(seller, sell["number"]),
        }
        before = self.world.market()["halted"]
        open_now = self.continuous[0] <= self.settled + 1 and self.last_opened < self.continuous[1]
        refusals = ("NotContinuous", "MarketHalted", "NotMatchable", "RunNotFinalised", *self.behind)
        if not self.taken(self.world.call, "trading", "match_order", named, **slots, refusals=refusals):
            return
        assert open_now
        assert not before
        if self.world.market()["halted"]:
            self.halted = True
            return
        ask, bid = up(sell["limit"] * 10_000, 10_000 - FEE_BP), buy["limit"] - WHEELING
        assert bid >= ask
        assert buyer.zone == seller.zone
        price = ask if sell["number"] < buy["number"] else bid
        all_in, cash, held = price + WHEELING, buyer.cover(NEVER)[1], seller.cover(NEVER)[0]
        energy = min(buy["energy"], sell["energy"], held)
        if up(all_in * energy) > cash:
            energy = cash * 1_000 // all_in
        cost, value = up(all_in * energy), price * energy // 1_000
        fee = value * FEE_BP // 10_000
        assert 0 < cost <= buy["limit"] * energy // 1_000
        assert (value - fee) * 1_000 >= sell["limit"] * energy
        buyer.thbc -= cost
        buyer.grid += energy
        seller.grid -= energy
        self.own.supplier += seller.credit(value - fee)
        self.own.platform += fee
        self.own.grid_operator += cost - value
        for home, placed in ((buyer, buy), (seller, sell)):
            placed["energy"] -= energy
            if placed["energy"] == 0:
                home.orders.remove(placed)

    def resume(self) -> None:
        named = {"authority": DEPLOYER.pubkey()}
        call, refusals = self.world.call, () if self.halted else ("InvalidTransition",)
        if self.taken(call, "trading", "resume_market", named, signers=[DEPLOYER], refusals=refusals):
            self.halted = False

    # ---- runs: drawn legally, then brought to their end step by step

    def plan_clearing(self, random: Random) -> None:
        """Run 0 of the next epoch: random energies, some meters missing, random trades within limits and cover."""
        epoch = self.settled + 1
        if self.run is not None or epoch > self.last_opened:
            return
        present = [h for h in self.homes if h.last_epoch == epoch - 1 and random.random() < 0.8]
        energies = {h.household.meter_id: (random.randrange(RATING_WH), random.randrange(RATING_WH)) for h in present}
        nets = {
            h.household.meter_id: energies[h.household.meter_id][0] - energies[h.household.meter_id][1] for h in present
        }
        price = random.randrange(2_000_000, 6_000_000)
        auction = not self.continuous[0] <= epoch < self.continuous[1]
        traded, orders = self._trades(epoch, present, nets, price, random) if auction else ({}, [])
        buy_back = random.random() < 0.5
        sums = [0] * 4
        for home in present:
            wh = traded.get(home.household.meter_id, 0)
            if wh > 0:
                cost = up(wh * (price + WHEELING))
                sums[0] += cost
                sums[1] += cost - wh * price // 1_000
            elif wh < 0:
                value = -wh * price // 1_000
                sums[2] += value - value * FEE_BP // 10_000
                sums[3] += value * FEE_BP // 10_000
        rent = sums[0] - sums[1] - sums[2] - sums[3]
        zones = [Zone(zone, price, WHEELING) for zone in (1, 2)] if any(traded.values()) else []
        meters = [(h.household, pack("<II", *energies[h.household.meter_id])) for h in present]
        entries = [(nets[h.household.meter_id], traded.get(h.household.meter_id, 0)) for h in present]
        self.effects = [(self.homes.index(h), entry) for h, entry in zip(present, entries, strict=True)]
        traders = [(h.household, pack("<ii", *entry)) for h, entry in zip(present, entries, strict=True)]
        run = Run(
            CLEARING, epoch, 0, self.seq + 1, meters, traders, orders, zones, BUY_BACK * buy_back,
            rent=rent, traders_per_batch=2, meters_per_batch=3,
        )  # fmt: skip
        self.terms = {"price": price, "buy_back": buy_back, "rent": rent}
        self._booked(run)
        self.metered = [(h, *energies[h.household.meter_id], None) for h in present]

    def _trades(self, epoch, present, nets, price, random):  # type: ignore[no-untyped-def]
        """Wh per meter id, bought +, sold −, and the signed orders behind them."""
        orders, can_buy, can_sell = [], {}, {}
        for home in present:
            net, name = nets[home.household.meter_id], home.household.meter_id
            mandate = home.mandate_at(epoch)
            grid, thbc = home.cover(epoch)
            sides = {o["side"] for o in home.orders if o["epoch"] == epoch}
            side = sides.pop() if sides else (BUY if net < 0 else SELL)
            placed = [o for o in home.orders if o["epoch"] == epoch]
            extra = random.randrange(0, 800) if random.random() < 0.3 else 0
            if side == BUY:
                allowed = sum(o["energy"] for o in placed if o["limit"] >= price + WHEELING)
                if mandate and mandate["buy_max"] >= price + WHEELING:
                    allowed += min(mandate["max_wh"], max(-net, 0))
                limit = min(up(price + WHEELING, 10_000) * 10_000, 8_000_000)
                can_buy[name] = min(allowed, max(0, thbc - 1) * 1_000 // (price + WHEELING))
            else:
                # a limit that holds for every amount: with a tick to spare
                floor = price * (10_000 - FEE_BP) // 10_000 - 10_000
                allowed = sum(o["energy"] for o in placed if o["limit"] <= floor)
                if mandate and 0 < mandate["sell_min"] <= floor:
                    allowed += min(mandate["max_wh"], max(net, 0))
                limit = floor // 10_000 * 10_000
                can_sell[name] = min(allowed, grid + max(net, 0))
            if extra and 2_000_000 <= limit <= 8_000_000:
                room = max(0, thbc - 1) * 1_000 // (price + WHEELING) if side == BUY else grid + max(net, 0)
                kept = can_buy if side == BUY else can_sell
                kept[name] = min(kept[name] + extra, room)
                orders.append((home.household, order(epoch, side, extra, limit, nonce=random.randrange(50))))
        volume = min(sum(can_buy.values()), sum(can_sell.values()))
        traded = {}
        for sign, side_can in ((1, can_buy), (-1, can_sell)):
            left = volume
            for name, most in sorted(side_can.items()):
                taken = min(left, most)
                traded[name] = traded.get(name, 0) + sign * taken
                left -= taken
        return traded, orders

    def plan_late(self, random: Random) -> None:
        """Missing meters catch up in a run of the last settled epoch."""
        epoch = self.settled
        behind = [h for h in self.homes if h.last_epoch < epoch]
        if self.run is not None or epoch < EPOCH or not behind:
            return
        chosen = [h for h in behind if random.random() < 0.8] or behind[:1]
        meters, traders, self.effects, self.metered = [], [], [], []
        for home in chosen:
            production, consumption = random.randrange(RATING_WH), random.randrange(RATING_WH)
            surplus = random.randint(max(0, production - consumption), production)
            deficit = surplus + consumption - production
            on_peak = random.randint(0, deficit)
            meters.append((home.household, pack("<IIII", epoch, production, consumption, surplus)))
            entry = (surplus, on_peak, deficit - on_peak)
            traders.append((home.household, pack("<III", *entry)))
            self.effects.append((self.homes.index(home), entry))
            self.metered.append((home, production, consumption, surplus))
        self._booked(Run(LATE, epoch, self.last_run[epoch] + 1, self.seq + 1, meters, traders, traders_per_batch=2))

    def plan_resettlement(self, random: Random) -> None:
        """A corrected boundary between the last two settled epochs."""
        epoch = self.settled
        homes = [h for h in self.homes if h.last_epoch >= epoch and h.last_epoch > EPOCH]
        if self.run is not None or epoch <= EPOCH or not homes:
            return
        home = random.choice(homes)
        x = random.randint(0, 500)
        prior = random.random() < 0.5
        if random.random() < 0.5:
            fields, words = (x, 0, 0, 0, 0), (x, 0, 0, 0, 0)
        else:
            x = -min(x, home.minted, home.deficit, SHIFT_WH // 2)
            taken = random.randint(0, min(-x, home.grid, home.residual))
            returned = random.randint(0, min(-x - taken, self.own.supplier_grid, home.residual - taken))
            billed = random.randint(0, min(home.residual - taken - returned, 300))
            refund = taken + returned + billed
            fields = (0, refund, taken, returned, billed)
            words = (0, refund | (prior << 31), taken, returned, billed)
        self.effects = [(self.homes.index(home), (*fields, int(prior), x))]
        self.metered = [(home, 0, 0, x)]
        entries = [(home.household, pack("<IIIII", *words))]
        run = self.last_run[epoch] + 1
        self._booked(Run(RESETTLEMENT, epoch, run, self.seq + 1, [(home.household, pack("<i", x))], entries))

    def _booked(self, run: Run) -> None:
        self.run, self.seq = run, run.seq
        self.stage, self.todo = "attest", []

    def go_on(self, random: Random) -> None:
        """The present run one transaction further, by a relayer who chooses the order where there is one."""
        run, world = self.run, self.world
        if run is None:
            return
        if self.stage == "attest":
            world.attest_run(run)
            if not run.clearing:
                world.begin(run)
            self.stage = "meter"
        elif self.stage == "meter":
            world.meter(run)
            self._book_meters(run)
            self.stage = "commit"
        elif self.stage == "commit":
            world.commit(run)
            self.stage, self.todo = "record", list(range(len(run.orders)))
            random.shuffle(self.todo)
        elif self.stage == "record" and self.todo:
            world.send(*world.record_instructions(run, self.todo.pop()))
        elif self.stage == "record":
            self.stage, self.todo = "settle", list(range(len(run.trading)))
            random.shuffle(self.todo)
        elif self.stage == "settle" and self.todo:
            batch = self.todo.pop()
            world.settle(run, batch)
            self._book_batch(run, batch)
        else:
            world.finalize(run)
            self._finalised(run)

    def _book_meters(self, run: Run) -> None:
        for home, production, consumption, surplus in self.metered:
            if run.kind == RESETTLEMENT:
                home.minted += surplus
                home.deficit += surplus
                continue
            minted = max(production - consumption, 0) if run.clearing else surplus
            home.minted += minted
            home.deficit += minted + consumption - production
            home.last_epoch = run.epoch

    def _book_batch(self, run: Run, batch: int) -> None:
        size = run.traders_per_batch
        for index, entry in self.effects[batch * size : (batch + 1) * size]:
            settle = {CLEARING: self._settle, LATE: self._settle_late, RESETTLEMENT: self._resettle}[run.kind]
            settle(self.homes[index], run.epoch, *entry)

    def _settle(self, home: Home, epoch: int, net: int, traded: int) -> None:
        price = self.terms["price"]
        home.grid += max(net, 0)
        if traded > 0:
            cost = up(traded * (price + WHEELING))
            home.thbc -= cost
            home.grid += traded
            self.own.grid_operator += cost - traded * price // 1_000
        elif traded < 0:
            value = -traded * price // 1_000
            fee = value * FEE_BP // 10_000
            home.grid += traded
            self.own.supplier += home.credit(value - fee)
            self.own.platform += fee
        if net < 0:
            self._burn_or_bill(home, -net, ON_PEAK if is_on_peak(epoch) else OFF_PEAK)
        elif self.terms["buy_back"]:
            mandate, unsold = home.mandate_at(epoch), net + min(traded, 0)
            if mandate and mandate["buy_back"] and unsold > 0:
                received = unsold * FEED_IN // 1_000
                home.grid -= unsold
                self.own.supplier_grid += unsold
                self.own.supplier += home.credit(received) - received

    def _burn_or_bill(self, home: Home, deficit: int, tariff: int) -> None:
        burned = min(deficit, home.grid)
        home.grid -= burned
        home.residual += deficit - burned
        self.own.supplier += home.charge(up((deficit - burned) * tariff))

    def _settle_late(self, home: Home, epoch: int, surplus: int, on_peak: int, off_peak: int) -> None:
        home.grid += surplus
        self._burn_or_bill(home, on_peak, ON_PEAK)
        self._burn_or_bill(home, off_peak, OFF_PEAK)

    def _resettle(  # noqa: PLR0917 - the entry's fields in their order
        self, home: Home, epoch: int, _: int, refund: int, taken: int, returned: int, billed: int, prior: int, x: int
    ) -> None:
        tariff = {
            epoch: ON_PEAK if is_on_peak(epoch) else OFF_PEAK,
            epoch - 1: ON_PEAK if is_on_peak(epoch - 1) else OFF_PEAK,
        }
        deficit, surplus = (epoch - 1, epoch) if prior else (epoch, epoch - 1)
        refunded = refund * tariff[deficit] // 1_000
        self.own.supplier += home.credit(refunded) - refunded
        moved = max(0, taken - home.grid)  # what has left since the run was booked is billed
        home.grid -= taken - moved
        billed += moved
        self.own.supplier_grid -= returned
        self.own.supplier += home.charge(up(returned * FEED_IN))
        self.own.supplier += home.charge(up(billed * tariff[surplus]))
        home.residual += billed - refund

    def _finalised(self, run: Run) -> None:
        if run.clearing:
            self.settled = run.epoch
            self.own.grid_operator += self.terms["rent"]
        self.last_run[run.epoch] = run.run
        self.run, self.stage, self.effects = None, "", []

    # ---- what is stuck

    def a_day_without_oracles(self) -> None:
        """Nothing is settled for a day; the authority voids what is over by then."""
        if self.run is not None:
            return
        for _ in range(DAY + 2):
            self.open()
        stuck = self.last_opened - DAY - 1
        if self.settled >= stuck:
            return
        last = self.last_opened - 1
        while self.settled < last:
            epoch = self.settled + 1
            named = {
                "authority": DEPLOYER.pubkey(),
                "epoch": addresses.epoch(epoch),
                "metered": addresses.metered(epoch),
                "attestation": addresses.attestation(CLEARING, epoch, 0),
            }
            self.world.call("trading", "void_epoch", named, signers=[DEPLOYER], depth=0, rest=b"")
            self.settled = epoch
        for home in self.homes:
            home.orders = [o for o in home.orders if o["epoch"] > self.settled]


# what Token-2022 answers where a source holds less, or is no account
NOT_HELD = ("custom error 1", "InvalidAccountData", "IncorrectProgramId", "custom error 4")
