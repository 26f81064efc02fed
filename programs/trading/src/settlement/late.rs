//! Late entries, one household: surplus is credited, deficits burn what is held, dearest tariff class first (domain §6).

use common::{
    quantities::{PriceUthb, Wh},
    state::trading::{RunSums, Trader},
    Error,
};

use super::{add_grid, burn_or_bill, enter, sum_wh};

/// What the run reads of its epoch.
pub struct Terms {
    pub seq: u64,
    pub tariff_on_peak: PriceUthb,
    pub tariff_off_peak: PriceUthb,
}

/// An entry, all Wh.
#[derive(Clone, Copy)]
pub struct Entry {
    pub surplus_wh: u32,
    pub on_peak_wh: u32,
    pub off_peak_wh: u32,
}

/// Books a late entry: no trades, no buy-back. Errors: `DuplicateEntry`, `BalanceOverflow`.
#[inline(always)]
pub fn settle_late(trader: &mut Trader, entry: &Entry, terms: &Terms, sums: &mut RunSums) -> Result<(), Error> {
    enter(trader, terms.seq)?;
    sum_wh(&mut sums.credited_wh, Wh(entry.surplus_wh as u64));
    sum_wh(
        &mut sums.drawn_wh,
        Wh(entry.on_peak_wh as u64 + entry.off_peak_wh as u64),
    );
    add_grid(trader, Wh(entry.surplus_wh as u64))?;
    let on_peak = (Wh(entry.on_peak_wh as u64), terms.tariff_on_peak);
    let off_peak = (Wh(entry.off_peak_wh as u64), terms.tariff_off_peak);
    let (first, second) = if on_peak.1 >= off_peak.1 {
        (on_peak, off_peak)
    } else {
        (off_peak, on_peak)
    };
    burn_or_bill(trader, first.0, first.1, sums)?;
    burn_or_bill(trader, second.0, second.1, sums)
}
