//! The arithmetic against an independent reference in i128, over entries from a fixed-seed generator, and worked examples.

use super::initial::{settle, Terms};
use super::late::{self, settle_late, Entry};
use super::resettlement::{self, resettle, Rates, DEFICIT_IS_PRIOR};
use common::quantities::{MicroThb, PriceUthb, Wh};
use common::state::trading::{Mandate, RunSums, Slot, Trader, ZonePrice, BALANCE_LIMIT, SIDE_BUY, SIDE_SELL, ZONES};
use common::Error;

const EPOCH: u32 = 1_966_560;
const SEQ: u64 = 7;

/// xorshift64*: the same entries on every machine.
struct Generator(u64);

impl Generator {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn trader() -> Trader {
    Trader {
        zone: 1,
        last_seq: SEQ - 1,
        current: Mandate::NONE,
        next: Mandate::NONE,
        ..Trader::default()
    }
}

fn balances(t: &Trader) -> (u64, u64, u64) {
    (t.grid_wh.0, t.thbc_uthb.0, t.debt_uthb.0)
}

fn wide(t: &Trader) -> (i128, i128, i128) {
    (t.grid_wh.0 as i128, t.thbc_uthb.0 as i128, t.debt_uthb.0 as i128)
}

fn mandate(sell_min: u32, buy_max: u32, max_wh: u32, buy_back: u8) -> Mandate {
    Mandate {
        set_at: 1,
        effective_epoch: EPOCH - 5,
        end_epoch: u32::MAX,
        sell_min: PriceUthb(sell_min),
        buy_max: PriceUthb(buy_max),
        max_wh,
        buy_back,
        is_set: 1,
        _pad: 0,
    }
}

fn slot(side: u8, limit: u32, energy_wh: u32) -> Slot {
    Slot {
        epoch: EPOCH,
        limit: PriceUthb(limit),
        energy_wh,
        side,
        used: 1,
        _pad: 0,
    }
}

fn zones(price: u32, wheeling: u32) -> [ZonePrice; ZONES] {
    let mut zones = [ZonePrice::default(); ZONES];
    zones[1] = ZonePrice {
        price: PriceUthb(price),
        wheeling: PriceUthb(wheeling),
    };
    zones
}

fn terms(zones: &[ZonePrice; ZONES]) -> Terms<'_> {
    Terms {
        epoch: EPOCH,
        seq: SEQ,
        fee_bp: 100,
        tariff: PriceUthb(4_100_000),
        feed_in: PriceUthb(2_200_000),
        buy_back: true,
        zones,
    }
}

fn late(surplus_wh: u32, on_peak_wh: u32, off_peak_wh: u32) -> Entry {
    Entry {
        surplus_wh,
        on_peak_wh,
        off_peak_wh,
    }
}

fn late_terms(on_peak: u32, off_peak: u32) -> late::Terms {
    late::Terms {
        seq: SEQ,
        tariff_on_peak: PriceUthb(on_peak),
        tariff_off_peak: PriceUthb(off_peak),
    }
}

fn floor(a: i128, b: i128) -> i128 {
    a.div_euclid(b)
}

fn ceil(a: i128, b: i128) -> i128 {
    -((-a).div_euclid(b))
}

/// Domain §6 written once more, in i128 and without sharing anything with the program. Returns (grid, thbc, debt) or None if refused.
fn reference(t: &Trader, net: i128, traded: i128, x: &Terms) -> Option<(i128, i128, i128)> {
    let (mut grid, mut thbc, mut debt) = wide(t);
    let zone = x.zones[t.zone as usize];
    let (price, all_in) = (zone.price.0 as i128, zone.price.0 as i128 + zone.wheeling.0 as i128);
    let acting = if t.next.is_set == 1 && t.next.effective_epoch <= x.epoch {
        t.next
    } else {
        t.current
    };
    let acts = acting.is_set == 1 && (acting.effective_epoch..acting.end_epoch).contains(&x.epoch);
    let slots = |side: u8| {
        t.slots
            .iter()
            .filter(move |s| s.used == 1 && s.epoch == x.epoch && s.side == side)
    };
    let mut credit = |thbc: &mut i128, amount: i128| {
        let repaid = debt.min(amount);
        debt -= repaid;
        *thbc += amount - repaid;
    };
    grid += net.max(0);
    let sold = (-traded).max(0);
    if traded != 0 && price == 0 {
        return None;
    }
    if traded > 0 {
        let mut allowed: i128 = slots(SIDE_BUY)
            .filter(|s| s.limit.0 as i128 >= all_in)
            .map(|s| s.energy_wh as i128)
            .sum();
        if acts && acting.buy_max.0 as i128 >= all_in {
            allowed += acting.max_wh as i128;
        }
        let cost = ceil(traded * all_in, 1_000);
        if traded > allowed || cost > thbc {
            return None;
        }
        thbc -= cost;
        grid += traded;
    }
    if sold > 0 {
        let value = floor(sold * price, 1_000);
        let proceeds = value - floor(value * x.fee_bp as i128, 10_000);
        let holds = |limit: PriceUthb| limit.0 as i128 * sold <= 1_000 * proceeds;
        let mut allowed: i128 = slots(SIDE_SELL)
            .filter(|s| holds(s.limit))
            .map(|s| s.energy_wh as i128)
            .sum();
        if acts && acting.sell_min.0 > 0 && holds(acting.sell_min) {
            allowed += acting.max_wh as i128;
        }
        if sold > allowed || sold > grid {
            return None;
        }
        grid -= sold;
        credit(&mut thbc, proceeds);
    }
    let burned = grid.min((-net).max(0));
    if net < 0 {
        grid -= burned;
        let bill = ceil((-net - burned) * x.tariff.0 as i128, 1_000);
        let paid = bill.min(thbc);
        thbc -= paid;
        debt += bill - paid;
    } else if x.buy_back && acts && acting.buy_back == 1 {
        let unsold = (net - sold).max(0);
        grid -= unsold;
        let received = floor(unsold * x.feed_in.0 as i128, 1_000);
        let repaid = debt.min(received);
        debt -= repaid;
        thbc += received - repaid;
    }
    Some((grid, thbc, debt))
}

#[test]
fn a_hundred_thousand_entries_agree_with_the_reference_and_their_sums_close() {
    let mut random = Generator(0x9E37_79B9_7F4A_7C15);
    let (mut settled, mut refused) = (0, 0);
    for _ in 0..100_000 {
        let table = zones(random.below(1 << 23) as u32, random.below(1 << 20) as u32);
        let mut x = terms(&table);
        x.fee_bp = random.below(5_001) as u16;
        x.buy_back = !random.one_in(3);
        let scale = [1, 1_000, 250_000, 1 << 31][random.below(4) as usize];
        let mut t = trader();
        t.grid_wh = Wh(random.below(scale));
        t.thbc_uthb = MicroThb(random.below(scale) * random.below(10_000));
        t.debt_uthb = MicroThb(random.below(2) * random.below(scale) * random.below(5_000));
        let pick = |r: &mut Generator| if r.one_in(4) { 0 } else { r.below(9_000_000) as u32 };
        t.current = mandate(
            pick(&mut random),
            pick(&mut random),
            random.below(scale) as u32,
            random.below(2) as u8,
        );
        if random.one_in(2) {
            t.next = mandate(
                pick(&mut random),
                pick(&mut random),
                random.below(scale) as u32,
                random.below(2) as u8,
            );
            t.next.effective_epoch = EPOCH - 1 + random.below(3) as u32;
            t.current.end_epoch = EPOCH - 1 + random.below(3) as u32;
        }
        for s in &mut t.slots {
            *s = slot(random.below(2) as u8, pick(&mut random), random.below(scale) as u32);
            s.used = random.below(2) as u8;
            s.epoch -= u32::from(random.one_in(3));
        }
        let signed = |r: &mut Generator| {
            (r.below(2 * scale) as i128 - scale as i128).clamp(i32::MIN as i128, i32::MAX as i128) as i32
        };
        let (net, traded) = (
            signed(&mut random),
            if random.one_in(3) { 0 } else { signed(&mut random) },
        );
        let expected = reference(&t, net as i128, traded as i128, &x);
        let before = t;
        let mut sums = RunSums::default();
        let outcome = settle(&mut t, net as i64, traded as i64, &x, &mut sums);
        match expected {
            None => {
                assert!(outcome.is_err(), "must be refused: net {net} traded {traded}");
                refused += 1;
                continue;
            }
            Some(after) => {
                assert_eq!(outcome, Ok(()), "net {net} traded {traded}");
                assert_eq!(after, wide(&t));
                settled += 1;
            }
        }
        let wh = |v: Wh| v.0 as i128;
        let m = |v: MicroThb| v.0 as i128;
        assert_eq!(wh(sums.bought_wh) - wh(sums.sold_wh), traded as i128);
        let kept = net as i128 + traded as i128 + wh(sums.residual_wh) - wh(sums.bought_back_wh);
        assert_eq!(wh(t.grid_wh) - wh(before.grid_wh), kept);
        let flows = m(sums.proceeds_uthb) + m(sums.buy_back_uthb) - m(sums.cost_uthb) - m(sums.paid_uthb);
        assert_eq!(m(t.thbc_uthb) - m(before.thbc_uthb), flows - m(sums.debt_repaid_uthb));
        let debt = m(sums.debt_incurred_uthb) - m(sums.debt_repaid_uthb);
        assert_eq!(m(t.debt_uthb) - m(before.debt_uthb), debt);
        assert_eq!(m(sums.billed_uthb), m(sums.paid_uthb) + m(sums.debt_incurred_uthb));
    }
    assert!(
        settled > 20_000 && refused > 20_000,
        "both sides must be met: {settled} settled, {refused} refused"
    );
}

#[test]
fn a_purchase_pays_energy_and_wheeling_rounded_up_once_and_burns_for_the_deficit() {
    let table = zones(3_333_333, 250_001);
    let mut t = Trader {
        thbc_uthb: MicroThb(10_000_000),
        current: mandate(0, 4_000_000, 1_000, 0),
        ..trader()
    };
    let mut sums = RunSums::default();
    settle(&mut t, -1_001, 777, &terms(&table), &mut sums).unwrap();
    // cost ⌈777 × 3 583 334 / 1000⌉ = 2 784 251; energy ⌊777 × 3 333 333 / 1000⌋ = 2 589 999; residual 224 Wh at 4.10 = 918 400
    assert_eq!(balances(&t), (0, 10_000_000 - 2_784_251 - 918_400, 0));
    assert_eq!(t.last_seq, SEQ);
    assert_eq!(
        sums,
        RunSums {
            net_wh: -1_001,
            bought_wh: Wh(777),
            cost_uthb: MicroThb(2_784_251),
            zone_wheeling_uthb: MicroThb(194_252),
            residual_wh: Wh(224),
            billed_uthb: MicroThb(918_400),
            paid_uthb: MicroThb(918_400),
            ..RunSums::default()
        }
    );
}

#[test]
fn a_sale_pays_debt_first_and_the_unsold_rest_is_bought_back() {
    let table = zones(3_000_001, 0);
    let mut t = Trader {
        debt_uthb: MicroThb(1_000_000),
        current: mandate(2_500_000, 0, 1_000, 1),
        ..trader()
    };
    let mut sums = RunSums::default();
    settle(&mut t, 999, -333, &terms(&table), &mut sums).unwrap();
    // value ⌊333 × 3 000 001 / 1000⌋ = 999 000, fee 9 990, proceeds 989 010; buy-back ⌊666 × 2.2⌋ = 1 465 200
    assert_eq!(balances(&t), (0, 989_010 + 1_465_200 - 1_000_000, 0));
    assert_eq!(
        (sums.proceeds_uthb, sums.fee_uthb),
        (MicroThb(989_010), MicroThb(9_990))
    );
    assert_eq!(sums.debt_repaid_uthb, MicroThb(1_000_000));
    assert_eq!(
        (sums.bought_back_wh, sums.buy_back_uthb),
        (Wh(666), MicroThb(1_465_200))
    );
}

#[test]
fn a_sale_limit_holds_exactly_after_the_fee_and_not_one_wh_more() {
    let table = zones(3_030_304, 0);
    for (limit, fits) in [(3_000_001, true), (3_000_002, false)] {
        // 1000 Wh: value 3 030 304, fee 30 303, proceeds 3 000 001 µTHB: limit × 1000 ≤ 1000 × 3 000 001
        let mut t = Trader {
            current: mandate(limit, 0, 1_000, 0),
            ..trader()
        };
        let outcome = settle(&mut t, 1_000, -1_000, &terms(&table), &mut RunSums::default());
        assert_eq!(outcome, if fits { Ok(()) } else { Err(Error::OutsideLimits) });
    }
    let mut t = Trader {
        current: mandate(2_000_000, 0, 999, 0),
        ..trader()
    };
    assert_eq!(
        settle(&mut t, 1_000, -1_000, &terms(&table), &mut RunSums::default()),
        Err(Error::OutsideLimits)
    );
}

#[test]
fn every_refusal_of_an_entry_has_its_own_error() {
    let table = zones(3_000_000, 100_000);
    let x = terms(&table);
    let rich = Trader {
        thbc_uthb: MicroThb(10_000_000),
        grid_wh: Wh(10),
        ..trader()
    };
    let run = |mut t: Trader, traded: i32| settle(&mut t, 0, traded as i64, &x, &mut RunSums::default());
    assert_eq!(run(Trader { last_seq: SEQ, ..rich }, 0), Err(Error::DuplicateEntry));
    assert_eq!(run(Trader { zone: 2, ..rich }, 1), Err(Error::NoPrice));
    assert_eq!(run(rich, 1), Err(Error::OutsideLimits));
    assert_eq!(
        run(
            Trader {
                current: mandate(0, 3_099_999, 9, 0),
                ..rich
            },
            1
        ),
        Err(Error::OutsideLimits)
    );
    assert_eq!(
        run(
            Trader {
                current: mandate(0, 3_100_000, 9, 0),
                thbc_uthb: MicroThb(3_099),
                ..rich
            },
            1
        ),
        Err(Error::InsufficientThbc)
    );
    assert_eq!(run(rich, -1), Err(Error::OutsideLimits));
    assert_eq!(
        run(
            Trader {
                current: mandate(2_000_000, 0, 99, 0),
                ..rich
            },
            -11
        ),
        Err(Error::InsufficientGrid)
    );
    let full = Trader {
        current: mandate(2_000_000, 0, 99, 0),
        thbc_uthb: MicroThb(BALANCE_LIMIT - 1),
        ..rich
    };
    assert_eq!(run(full, -10), Err(Error::BalanceOverflow));
}

#[test]
fn mandate_and_recorded_orders_add_up_and_slots_of_another_epoch_or_side_do_not_count() {
    let table = zones(3_000_000, 0);
    let mut t = Trader {
        thbc_uthb: MicroThb(10_000_000),
        current: mandate(0, 3_000_000, 10, 0),
        ..trader()
    };
    t.slots[0] = slot(SIDE_BUY, 3_000_000, 20);
    t.slots[7] = slot(SIDE_BUY, 8_000_000, 30);
    t.slots[1] = slot(SIDE_BUY, 2_990_000, 1_000);
    t.slots[2] = slot(SIDE_SELL, 8_000_000, 1_000);
    t.slots[3] = Slot {
        epoch: EPOCH + 1,
        ..slot(SIDE_BUY, 8_000_000, 1_000)
    };
    t.slots[4] = Slot {
        used: 0,
        ..slot(SIDE_BUY, 8_000_000, 1_000)
    };
    let run = |mut t: Trader, b: i32| settle(&mut t, 0, b as i64, &terms(&table), &mut RunSums::default());
    assert_eq!(run(t, 60), Ok(()));
    assert_eq!(run(t, 61), Err(Error::OutsideLimits));
}

#[test]
fn a_late_deficit_burns_for_the_dearest_class_first_and_bills_each_class_rounded_up() {
    let x = late_terms(4_100_001, 2_580_001);
    let mut t = Trader {
        grid_wh: Wh(50),
        thbc_uthb: MicroThb(100_000),
        ..trader()
    };
    let mut sums = RunSums::default();
    settle_late(&mut t, &late(50, 150, 25), &x, &mut sums).unwrap();
    // 100 Wh burned for on-peak; residual 50 on-peak ⌈205 000.05⌉ and 25 off-peak ⌈64 500.025⌉
    assert_eq!(balances(&t), (0, 0, 205_001 + 64_501 - 100_000));
    assert_eq!((sums.net_wh, sums.residual_wh), (-125, Wh(75)));
    assert_eq!(
        (sums.billed_uthb, sums.paid_uthb),
        (MicroThb(269_502), MicroThb(100_000))
    );
    let dearer_off_peak = late_terms(1_000_000, 2_000_000);
    let mut t = Trader {
        grid_wh: Wh(100),
        ..trader()
    };
    settle_late(&mut t, &late(0, 150, 100), &dearer_off_peak, &mut RunSums::default()).unwrap();
    assert_eq!(balances(&t), (0, 0, 150_000));
}

#[test]
fn late_entries_agree_with_the_reference() {
    let mut random = Generator(11);
    for _ in 0..20_000 {
        let x = late_terms(random.next() as u32, random.next() as u32);
        let (surplus, on, off) = (
            random.below(1 << 32) as u32,
            random.below(1 << 32) as u32,
            random.below(1 << 32) as u32,
        );
        let mut t = Trader {
            grid_wh: Wh(random.below(1 << 33)),
            thbc_uthb: MicroThb(random.below(1 << 54)),
            ..trader()
        };
        let before = t;
        let mut sums = RunSums::default();
        settle_late(&mut t, &late(surplus, on, off), &x, &mut sums).unwrap();
        let mut classes = [(x.tariff_on_peak, on), (x.tariff_off_peak, off)];
        if x.tariff_off_peak > x.tariff_on_peak {
            classes.reverse();
        }
        let mut grid = before.grid_wh.0 as i128 + surplus as i128;
        let mut bill = 0;
        for (tariff, deficit) in classes {
            let burned = grid.min(deficit as i128);
            grid -= burned;
            bill += ceil((deficit as i128 - burned) * tariff.0 as i128, 1_000);
        }
        let paid = bill.min(before.thbc_uthb.0 as i128);
        assert_eq!(wide(&t), (grid, before.thbc_uthb.0 as i128 - paid, bill - paid));
        assert_eq!(sums.billed_uthb.0 as i128, bill);
    }
}

#[test]
fn a_resettlement_refunds_at_the_deficit_epoch_and_bills_at_the_surplus_epoch() {
    let x = resettlement::Terms {
        seq: SEQ,
        epoch: Rates {
            tariff: PriceUthb(4_100_001),
            feed_in: PriceUthb(2_200_001),
        },
        prior: Rates {
            tariff: PriceUthb(2_580_001),
            feed_in: PriceUthb(2_100_001),
        },
    };
    let entry = resettlement::Entry {
        minted_and_burned_wh: 40,
        refund_wh: 100,
        taken_back_wh: 30,
        returned_wh: 50,
        billed_wh: 20,
    };
    // deficit in `epoch`: refund ⌊410 000.1⌋; surplus in `prior`: returned ⌈105 000.05⌉, billed ⌈51 600.02⌉
    let mut t = Trader {
        grid_wh: Wh(30),
        debt_uthb: MicroThb(400_000),
        ..trader()
    };
    let mut sums = RunSums::default();
    resettle(&mut t, &entry, &x, &mut sums).unwrap();
    assert_eq!(balances(&t), (0, 0, 105_001 + 51_601 - 10_000));
    assert_eq!(
        sums,
        RunSums {
            residual_wh: Wh(20),
            billed_uthb: MicroThb(51_601),
            paid_uthb: MicroThb(10_000),
            debt_repaid_uthb: MicroThb(400_000),
            minted_and_burned_wh: Wh(40),
            refund_wh: Wh(100),
            refund_uthb: MicroThb(410_000),
            taken_back_wh: Wh(30),
            returned_wh: Wh(50),
            returned_uthb: MicroThb(105_001),
            debt_incurred_uthb: MicroThb(146_602),
            ..RunSums::default()
        }
    );
    // deficit in `prior`: refund ⌊258 000.1⌋; surplus in `epoch`: returned ⌈110 000.05⌉, billed ⌈82 000.02⌉
    let mut t = Trader {
        grid_wh: Wh(30),
        ..trader()
    };
    let prior = resettlement::Entry {
        refund_wh: entry.refund_wh | DEFICIT_IS_PRIOR,
        ..entry
    };
    resettle(&mut t, &prior, &x, &mut RunSums::default()).unwrap();
    assert_eq!(balances(&t), (0, 258_000 - 110_001 - 82_001, 0));
}

#[test]
fn a_resettlement_entry_that_does_not_close_or_takes_more_than_is_held_is_refused() {
    let rates = Rates {
        tariff: PriceUthb(4_000_000),
        feed_in: PriceUthb(2_000_000),
    };
    let x = resettlement::Terms {
        seq: SEQ,
        epoch: rates,
        prior: rates,
    };
    let entry = resettlement::Entry {
        minted_and_burned_wh: 0,
        refund_wh: 10,
        taken_back_wh: 5,
        returned_wh: 3,
        billed_wh: 2,
    };
    let run = |mut t: Trader, entry: resettlement::Entry| resettle(&mut t, &entry, &x, &mut RunSums::default());
    let holder = Trader {
        grid_wh: Wh(5),
        ..trader()
    };
    assert_eq!(run(holder, entry), Ok(()));
    assert_eq!(
        run(holder, resettlement::Entry { refund_wh: 11, ..entry }),
        Err(Error::RefundNotClosed)
    );
    assert_eq!(
        run(holder, resettlement::Entry { billed_wh: 3, ..entry }),
        Err(Error::RefundNotClosed)
    );
    assert_eq!(
        run(
            Trader {
                grid_wh: Wh(4),
                ..holder
            },
            entry
        ),
        Err(Error::InsufficientGrid)
    );
    assert_eq!(
        run(
            Trader {
                last_seq: SEQ,
                ..holder
            },
            entry
        ),
        Err(Error::DuplicateEntry)
    );
}
