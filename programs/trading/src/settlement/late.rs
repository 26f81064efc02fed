//! Late entries, one household: surplus is credited, deficits burn what is held, dearest tariff class first (domain §6).

use common::{
    quantities::PriceUthb,
    state::trading::{RunSums, Trader},
    Error,
};

use super::Wallet;

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
    let mut wallet = Wallet::enter(trader, terms.seq)?;
    let net = entry.surplus_wh as i64 - entry.on_peak_wh as i64 - entry.off_peak_wh as i64;
    sums.net_wh = sums.net_wh.wrapping_add(net);
    wallet.add_grid(entry.surplus_wh)?;
    let on_peak = (entry.on_peak_wh, terms.tariff_on_peak);
    let off_peak = (entry.off_peak_wh, terms.tariff_off_peak);
    let (first, second) = if on_peak.1 >= off_peak.1 {
        (on_peak, off_peak)
    } else {
        (off_peak, on_peak)
    };
    wallet.burn_or_bill(first.0, first.1, sums)?;
    wallet.burn_or_bill(second.0, second.1, sums)?;
    wallet.leave(trader, sums);
    Ok(())
}
