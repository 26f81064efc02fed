//! The arithmetic against an independent reference in i128, over entries from a fixed-seed generator.

use common::{
    quantities::{MicroThb, PriceUthb, Wh},
    state::trading::{RunSums, Trader, SIDE_BUY, SIDE_SELL},
};

use super::{
    super::{
        initial::{settle, Terms},
        late::settle_late,
    },
    late, late_terms, mandate, slot, terms, trader, zones, Generator, EPOCH,
};

fn wide(t: &Trader) -> (i128, i128, i128) {
    (t.grid_wh.0 as i128, t.thbc_uthb.0 as i128, t.debt_uthb.0 as i128)
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
    let other = |side: u8| slots(1 - side).next().is_some();
    let own = |side: u8| slots(side).map(|s| s.energy_wh as i128).sum::<i128>();
    // What a household's own orders leave of its net energy.
    let left = |net: i128, side: u8| if other(side) { 0 } else { (net - own(side)).max(0) };
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
            // Up to the whole deficit by mandate alone, or what orders leave of it beside them.
            let beside = allowed + (acting.max_wh as i128).min(left((-net).max(0), SIDE_BUY));
            allowed = beside.max((acting.max_wh as i128).min((-net).max(0)));
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
            let beside = allowed + (acting.max_wh as i128).min(left(net.max(0), SIDE_SELL));
            allowed = beside.max((acting.max_wh as i128).min(net.max(0)));
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
