//! The settlement arithmetic on a host. Here: what the tests share. `property`: random entries against a reference in i128;
//! `examples`: worked examples and refusals; `pay_as_bid`: both, for
//! orders with values of their own.

mod examples;
mod pay_as_bid;
mod property;

use common::{
    quantities::PriceUthb,
    state::trading::{Mandate, Slot, Trader, ZonePrice, ZONES},
};

use super::{
    initial::Terms,
    late::{self, Entry},
};

const EPOCH: u32 = 1_966_560;
const SEQ: u64 = 7;

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
