//! Resettlement, one household: a corrected boundary moved Wh between two settled epochs (domain §7). No trade is re-priced.

use common::{
    quantities::{PriceUthb, Wh},
    state::trading::{RunSums, Trader},
    Error,
};

use super::Wallet;

/// Set in `refund_wh`: the epoch that was in deficit is the one before the run's epoch.
pub const DEFICIT_IS_PRIOR: u32 = 1 << 31;

/// Rates of one of the two epochs.
#[derive(Clone, Copy)]
pub struct Rates {
    pub tariff: PriceUthb,
    pub feed_in: PriceUthb,
}

/// What the run reads of its two epochs.
pub struct Terms {
    pub seq: u64,
    pub epoch: Rates,
    pub prior: Rates,
}

/// An entry, all Wh; `refund_wh` may carry `DEFICIT_IS_PRIOR`.
#[derive(Clone, Copy)]
pub struct Entry {
    pub minted_and_burned_wh: u32,
    pub refund_wh: u32,
    pub taken_back_wh: u32,
    pub returned_wh: u32,
    pub billed_wh: u32,
}

/// Books a correction: refund (debt first), take back, returned buy-back paid, re-billed residual. Errors: `DuplicateEntry`,
/// `RefundNotClosed` (refund = taken back + returned + billed must hold), `InsufficientGrid`, `BalanceOverflow`.
#[inline(always)]
pub fn resettle(trader: &mut Trader, entry: &Entry, terms: &Terms, sums: &mut RunSums) -> Result<(), Error> {
    let mut wallet = Wallet::enter(trader, terms.seq)?;
    let (deficit, surplus) = match entry.refund_wh & DEFICIT_IS_PRIOR {
        0 => (terms.epoch, terms.prior),
        _ => (terms.prior, terms.epoch),
    };
    let refund = entry.refund_wh & !DEFICIT_IS_PRIOR;
    let parts = entry.taken_back_wh as u64 + entry.returned_wh as u64 + entry.billed_wh as u64;
    if refund as u64 != parts {
        return Err(Error::RefundNotClosed);
    }
    let refunded = deficit.tariff.value_floor(refund);
    wallet.credit(refunded, sums)?;
    wallet.take_grid(entry.taken_back_wh)?;
    let for_returned = surplus.feed_in.value_ceil(entry.returned_wh);
    wallet.charge(for_returned, sums)?;
    let for_billed = surplus.tariff.value_ceil(entry.billed_wh);
    wallet.charge(for_billed, sums)?;
    sums.minted_and_burned_wh += Wh(entry.minted_and_burned_wh as u64);
    sums.refund_wh += Wh(refund as u64);
    sums.refund_uthb += refunded;
    sums.taken_back_wh += Wh(entry.taken_back_wh as u64);
    sums.returned_wh += Wh(entry.returned_wh as u64);
    sums.returned_uthb += for_returned;
    sums.residual_wh += Wh(entry.billed_wh as u64);
    sums.billed_uthb += for_billed;
    wallet.leave(trader, sums);
    Ok(())
}
