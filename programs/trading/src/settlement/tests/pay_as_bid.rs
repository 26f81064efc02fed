//! Orders with values of their own: worked examples, every way to reach beyond a limit, and random entries against a reference.

use common::{
    quantities::{MicroThb, Wh},
    state::trading::{RunSums, Trader, ZonePrice, SIDE_BUY, SIDE_SELL},
    Error,
};

use super::{
    super::{
        initial::Terms,
        pay_as_bid::{settle, Fill, BY_MANDATE, SELLS},
    },
    balances, mandate, slot, terms, trader, zones, Generator, EPOCH,
};

fn fill(slot: u32, energy_wh: u64, value: u64) -> Fill {
    Fill {
        slot,
        energy: Wh(energy_wh),
        value: MicroThb(value),
    }
}

/// Settles with zone wheeling 0.50 and returns the trader and its sums.
fn run(mut t: Trader, net: i64, fills: &[Fill]) -> Result<(Trader, RunSums), Error> {
    let table = zones(0, 500_000);
    let mut sums = RunSums::default();
    settle(&mut t, net, fills.iter().copied(), &terms(&table), &mut sums)?;
    Ok((t, sums))
}

fn buyer() -> Trader {
    let mut t = Trader {
        thbc_uthb: MicroThb(10_000_000),
        current: mandate(0, 3_900_000, 400, 0),
        ..trader()
    };
    t.slots[0] = slot(SIDE_BUY, 4_000_000, 300);
    t.slots[1] = slot(SIDE_BUY, 5_000_000, 200);
    t
}

/// Without its orders, which come before the mandate.
fn by_mandate(mut t: Trader) -> Trader {
    t.slots = Default::default();
    t
}

fn seller() -> Trader {
    let mut t = Trader {
        current: mandate(2_500_000, 0, 400, 1),
        ..trader()
    };
    t.slots[0] = slot(SIDE_SELL, 3_000_000, 300);
    t.slots[1] = slot(SIDE_SELL, 4_000_000, 200);
    t
}

#[test]
fn a_buyer_pays_each_order_its_own_value_and_wheeling_rounded_up() {
    // 4.00: two orders of one limit, 100 Wh at 3.40 and 101 Wh at 3.50; 5.00: 200 Wh at 4.50; mandate: 99 Wh of what the orders leave of 600 at 3.30
    let fills = [
        fill(4_000_000, 100, 340_000),
        fill(4_000_000, 101, 353_500),
        fill(5_000_000, 200, 900_000),
        fill(BY_MANDATE, 99, 326_700),
    ];
    let (t, sums) = run(buyer(), -600, &fills).unwrap();
    let (energy, wheeling) = (
        340_000 + 353_500 + 900_000 + 326_700,
        50_000 + 50_500 + 100_000 + 49_500,
    );
    assert_eq!(balances(&t), (0, 10_000_000 - energy - wheeling - 410_000, 0));
    let expected = RunSums {
        drawn_wh: Wh(600),
        residual_wh: Wh(100),
        billed_uthb: MicroThb(410_000),
        paid_uthb: MicroThb(410_000),
        bought_wh: Wh(500),
        cost_uthb: MicroThb(energy + wheeling),
        zone_wheeling_uthb: MicroThb(wheeling),
        ..RunSums::default()
    };
    assert_eq!(sums, expected);
}

#[test]
fn a_seller_earns_each_order_its_own_value_less_its_fee_rounded_down_and_sells_the_rest_back() {
    // fees ⌊909 099 × 1 %⌋ = 9 090, ⌊404 100 × 1 %⌋ = 4 041, ⌊252 700 × 1 %⌋ = 2 527; 100 Wh left to the supplier at 2.20
    let fills = [
        fill(SELLS | 3_000_000, 300, 909_099),
        fill(SELLS | 4_000_000, 100, 404_100),
        fill(BY_MANDATE | SELLS, 100, 252_700),
    ];
    let (t, sums) = run(seller(), 600, &fills).unwrap();
    let (proceeds, fee) = (900_009 + 400_059 + 250_173, 9_090 + 4_041 + 2_527);
    assert_eq!(balances(&t), (0, proceeds + 220_000, 0));
    let expected = RunSums {
        credited_wh: Wh(600),
        sold_wh: Wh(500),
        proceeds_uthb: MicroThb(proceeds),
        fee_uthb: MicroThb(fee),
        bought_back_wh: Wh(100),
        buy_back_uthb: MicroThb(220_000),
        ..RunSums::default()
    };
    assert_eq!(sums, expected);
}

#[test]
fn an_entry_without_fills_only_settles_its_energy() {
    let (t, sums) = run(seller(), 100, &[]).unwrap();
    assert_eq!((balances(&t), sums.bought_back_wh), ((0, 220_000, 0), Wh(100)));
    let (t, sums) = run(buyer(), -100, &[]).unwrap();
    assert_eq!(
        (balances(&t), sums.residual_wh),
        ((0, 10_000_000 - 410_000, 0), Wh(100))
    );
}

#[test]
fn a_value_outside_an_orders_limit_by_one_is_refused() {
    // 100 Wh at 4.00 all-in are 400 000, of which 50 000 is wheeling
    assert!(run(buyer(), 0, &[fill(4_000_000, 100, 350_000)]).is_ok());
    let refused = |t, net, f: Fill| run(t, net, &[f]).err();
    assert_eq!(
        refused(buyer(), 0, fill(4_000_000, 100, 350_001)),
        Some(Error::OutsideLimits)
    );
    assert_eq!(
        refused(by_mandate(buyer()), -100, fill(BY_MANDATE, 100, 340_001)),
        Some(Error::OutsideLimits)
    );
    // 300 000 must be left of 100 Wh at 3.00 after 1 %: ⌊303 030 × 1 %⌋ = 3 030
    assert!(run(seller(), 100, &[fill(SELLS | 3_000_000, 100, 303_030)]).is_ok());
    assert_eq!(
        refused(seller(), 100, fill(SELLS | 3_000_000, 100, 303_029)),
        Some(Error::OutsideLimits)
    );
    assert_eq!(
        refused(by_mandate(seller()), 100, fill(BY_MANDATE | SELLS, 100, 252_524)),
        Some(Error::OutsideLimits)
    );
    // nor at more than any price, whatever the limit
    assert!(run(seller(), 100, &[fill(SELLS | 3_000_000, 100, 838_860)]).is_ok());
    assert_eq!(
        refused(seller(), 100, fill(SELLS | 3_000_000, 100, 838_861)),
        Some(Error::PriceOutOfBand)
    );
    assert_eq!(
        refused(buyer(), 0, fill(4_000_000, 100, u64::MAX)),
        Some(Error::PriceOutOfBand)
    );
}

#[test]
fn an_order_of_another_epoch_side_or_limit_and_no_order_at_all_are_refused() {
    let refused = |t, f: Fill| run(t, 1_000, &[f]).err();
    let mut earlier = buyer();
    earlier.slots[0].epoch = EPOCH - 1;
    assert_eq!(refused(earlier, fill(4_000_000, 1, 2_000)), Some(Error::OutsideLimits));
    let mut later = buyer();
    later.slots[0].epoch = EPOCH + 1;
    assert_eq!(refused(later, fill(4_000_000, 1, 2_000)), Some(Error::OutsideLimits));
    assert_eq!(refused(buyer(), fill(4_000_001, 1, 2_000)), Some(Error::OutsideLimits));
    assert_eq!(
        refused(buyer(), fill(SELLS | 4_000_000, 1, 8_000)),
        Some(Error::OutsideLimits)
    );
    let mut free = buyer();
    free.slots[0].used = 0;
    assert_eq!(refused(free, fill(4_000_000, 1, 2_000)), Some(Error::OutsideLimits));
    // an epoch before the mandate, its other side, and names of it with other bits
    let mut young = by_mandate(seller());
    young.current.end_epoch = EPOCH;
    assert_eq!(
        refused(young, fill(BY_MANDATE | SELLS, 1, 8_000)),
        Some(Error::OutsideLimits)
    );
    assert_eq!(
        run(by_mandate(seller()), -10, &[fill(BY_MANDATE, 1, 2_000)]).err(),
        Some(Error::OutsideLimits)
    );
    assert_eq!(
        refused(by_mandate(seller()), fill(BY_MANDATE | SELLS | 1, 1, 8_000)),
        Some(Error::OutsideLimits)
    );
}

#[test]
fn a_slot_named_twice_gives_no_more_than_its_energy_and_a_mandate_no_more_than_the_surplus() {
    let twice = |a, b| {
        run(
            buyer(),
            0,
            &[fill(4_000_000, a, a * 3_000), fill(4_000_000, b, b * 3_000)],
        )
        .err()
    };
    assert_eq!(twice(200, 100), None);
    assert_eq!(twice(200, 101), Some(Error::OutsideLimits));
    let back = [fill(5_000_000, 1, 3_000), fill(4_000_000, 1, 3_000)];
    assert_eq!(run(buyer(), 0, &back).err(), Some(Error::FillsNotAscending));
    let again = [
        fill(4_000_000, 300, 900_000),
        fill(5_000_000, 1, 3_000),
        fill(4_000_000, 300, 900_000),
    ];
    assert_eq!(run(buyer(), 0, &again).err(), Some(Error::FillsNotAscending));
    let sold = |net, wh| run(by_mandate(seller()), net, &[fill(BY_MANDATE | SELLS, wh, wh * 3_000)]).err();
    assert_eq!(
        (sold(400, 400), sold(399, 400), sold(500, 401)),
        (None, Some(Error::OutsideLimits), Some(Error::OutsideLimits))
    );
}

#[test]
fn fills_on_both_sides_of_nothing_uncovered_and_twice_in_a_run_are_refused() {
    let mut both = buyer();
    both.grid_wh = Wh(1_000);
    both.slots[2] = slot(SIDE_SELL, 2_000_000, 100);
    let fills = [fill(4_000_000, 1, 3_000), fill(SELLS | 2_000_000, 1, 3_000)];
    assert_eq!(run(both, 0, &fills).err(), Some(Error::SelfTrade));
    assert_eq!(run(buyer(), 0, &[fill(4_000_000, 0, 0)]).err(), Some(Error::ZeroAmount));
    let poor = Trader {
        thbc_uthb: MicroThb(349_999),
        ..buyer()
    };
    assert_eq!(
        run(poor, 0, &[fill(4_000_000, 100, 300_000)]).err(),
        Some(Error::InsufficientThbc)
    );
    let fills = [fill(SELLS | 3_000_000, 300, 1_000_000)];
    assert_eq!(run(seller(), 299, &fills).err(), Some(Error::InsufficientGrid));
    let (t, _) = run(seller(), 300, &fills).unwrap();
    assert_eq!(run(t, 300, &fills).err(), Some(Error::DuplicateEntry));
}

/// Domain §6 written once more, in i128: (grid, thbc, debt) after the trades alone, or None if refused.
fn reference(t: &Trader, net: i128, fills: &[Fill], x: &Terms) -> Option<(i128, i128, i128)> {
    let zone: ZonePrice = x.zones[t.zone as usize];
    let (mut grid, mut thbc, mut debt) = (
        t.grid_wh.0 as i128 + net.max(0),
        t.thbc_uthb.0 as i128,
        t.debt_uthb.0 as i128,
    );
    let acts = (t.current.effective_epoch..t.current.end_epoch).contains(&x.epoch);
    for (at, f) in fills.iter().enumerate() {
        let (sells, wh, value) = (f.slot & SELLS != 0, f.energy.0 as i128, f.value.0 as i128);
        let ordered = at == 0 || fills[at - 1].slot <= f.slot && fills[at - 1].slot & SELLS == f.slot & SELLS;
        let same: i128 = fills
            .iter()
            .filter(|o| o.slot == f.slot)
            .map(|o| o.energy.0 as i128)
            .sum();
        let (limit, allowed) = if f.slot & BY_MANDATE != 0 {
            let (limit, own) = if sells {
                (t.current.sell_min, net.max(0))
            } else {
                (t.current.buy_max, (-net).max(0))
            };
            let limit = if acts { limit.0 as i128 } else { 0 };
            let side = if sells { SIDE_SELL } else { SIDE_BUY };
            let signed = || t.slots.iter().filter(|s| s.used == 1 && s.epoch == x.epoch);
            let same: i128 = signed().filter(|s| s.side == side).map(|s| s.energy_wh as i128).sum();
            let left = if signed().any(|s| s.side != side) {
                0
            } else {
                (own - same).max(0)
            };
            (limit, left.min(t.current.max_wh as i128))
        } else {
            let side = if sells { SIDE_SELL } else { SIDE_BUY };
            let held = t
                .slots
                .iter()
                .filter(|s| s.used == 1 && s.epoch == x.epoch && s.side == side);
            let named = held.filter(|s| s.limit.0 == f.slot & !SELLS);
            ((f.slot & !SELLS) as i128, named.map(|s| s.energy_wh as i128).sum())
        };
        let in_band = value <= (wh << 23) / 1_000;
        if !ordered || wh == 0 || !in_band || same > allowed || limit == 0 {
            return None;
        }
        if sells {
            let proceeds = value - value * x.fee_bp as i128 / 10_000;
            if limit * wh > proceeds * 1_000 || wh > grid {
                return None;
            }
            grid -= wh;
            let repaid = debt.min(proceeds);
            debt -= repaid;
            thbc += proceeds - repaid;
        } else {
            let cost = value + (wh * zone.wheeling.0 as i128 + 999) / 1_000;
            if cost * 1_000 > limit * wh || cost > thbc {
                return None;
            }
            thbc -= cost;
            grid += wh;
        }
    }
    Some((grid, thbc, debt))
}

#[test]
fn a_hundred_thousand_entries_agree_with_the_reference() {
    let mut random = Generator(0xB1D);
    let (mut settled, mut refused) = (0, 0);
    for _ in 0..100_000 {
        let table = zones(0, random.below(1_000_000) as u32);
        let mut x = terms(&table);
        x.fee_bp = random.below(500) as u16;
        x.buy_back = false;
        let scale = [10, 1_000, 250_000, 1 << 31][random.below(4) as usize];
        let mut t = trader();
        t.grid_wh = Wh(random.below(2 * scale));
        t.thbc_uthb = MicroThb(random.below(scale) * random.below(20_000));
        t.debt_uthb = MicroThb(random.below(2) * random.below(scale) * 1_000);
        let limits = [2_500_000, 3_000_000, 4_000_000, 7_990_000];
        t.current = mandate(
            limits[random.below(2) as usize],
            limits[3 - random.below(2) as usize],
            scale as u32,
            0,
        );
        t.current.end_epoch = EPOCH + u32::from(!random.one_in(8));
        for (held, limit) in t.slots.iter_mut().zip(limits.into_iter().cycle()) {
            *held = slot(random.below(2) as u8, limit, random.below(scale) as u32);
            held.used = u8::from(!random.one_in(4));
            held.epoch -= u32::from(random.one_in(8));
        }
        let net = random.below(2 * scale) as i64 - scale as i64;
        let side = if random.one_in(2) { SELLS } else { 0 };
        let mut fills: Vec<Fill> = (0..random.below(4))
            .map(|_| {
                let named = if random.one_in(3) {
                    BY_MANDATE
                } else {
                    limits[random.below(4) as usize]
                };
                let flipped = if random.one_in(40) { SELLS } else { 0 };
                let energy_wh = random.below(scale / 3 + 1);
                let price = 1_900_000 + random.below(6_200_000);
                fill(named | side ^ flipped, energy_wh, energy_wh * price / 1_000)
            })
            .collect();
        if !random.one_in(10) {
            fills.sort_by_key(|f| f.slot);
        }
        let expected = reference(&t, net as i128, &fills, &x);
        let mut sums = RunSums::default();
        let outcome = settle(&mut t, net, fills.iter().copied(), &x, &mut sums);
        let Some((grid, thbc, debt)) = expected else {
            assert!(outcome.is_err(), "must be refused: net {net}");
            refused += 1;
            continue;
        };
        assert_eq!(outcome, Ok(()), "net {net}");
        let deficit = (-net as i128).max(0);
        let burned = deficit.min(grid);
        let bill = ((deficit - burned) * 4_100_000 + 999) / 1_000;
        let paid = bill.min(thbc);
        let after = (t.grid_wh.0 as i128, t.thbc_uthb.0 as i128, t.debt_uthb.0 as i128);
        assert_eq!(after, (grid - burned, thbc - paid, debt + bill - paid));
        let costs = sums.cost_uthb.0 - sums.zone_wheeling_uthb.0;
        let values: u64 = fills.iter().map(|f| f.value.0).sum();
        let expected = if side == 0 {
            costs
        } else {
            sums.proceeds_uthb.0 + sums.fee_uthb.0
        };
        assert!(fills.is_empty() || fills[0].slot & SELLS != side || expected == values);
        settled += 1;
    }
    assert!(
        settled > 20_000 && refused > 20_000,
        "both sides must be met: {settled} settled, {refused} refused"
    );
}
