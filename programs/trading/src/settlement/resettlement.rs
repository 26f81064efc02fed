//! Resettlement, one household: a corrected boundary moved Wh between two settled epochs (domain §7). No trade is re-priced.

use common::{
    quantities::{PriceUthb, Wh},
    state::trading::{RunSums, Trader},
    Error,
};

use super::{charge, credit, enter, refused, sum_uthb, sum_wh, take_grid, value_ceil, value_floor};

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
/// `RefundNotClosed` (refund = taken back + returned + billed must hold), `BalanceOverflow`.
///
/// GRID to be taken back that has left since the run was booked (withdrawn, or matched) is billed instead, as domain §7 has it for
/// GRID that lacks at booking: if it were refused, whoever moves its GRID in time could stop this run and all runs after it.
#[inline(always)]
pub fn resettle(trader: &mut Trader, entry: &Entry, terms: &Terms, sums: &mut RunSums) -> Result<(), Error> {
    enter(trader, terms.seq)?;
    let (deficit, surplus) = match entry.refund_wh & DEFICIT_IS_PRIOR {
        0 => (terms.epoch, terms.prior),
        _ => (terms.prior, terms.epoch),
    };
    let refund = Wh((entry.refund_wh & !DEFICIT_IS_PRIOR) as u64);
    let [wanted, returned, billed] =
        [entry.taken_back_wh, entry.returned_wh, entry.billed_wh].map(|energy| Wh(energy as u64));
    if refund != wanted + returned + billed {
        return Err(refused(Error::RefundNotClosed));
    }
    let taken = wanted.min(trader.grid_wh);
    let billed = billed + (wanted - taken);
    let refunded = value_floor(refund, deficit.tariff.0 as u64);
    credit(trader, refunded, sums)?;
    take_grid(trader, taken)?;
    let for_returned = value_ceil(returned, surplus.feed_in.0 as u64);
    charge(trader, for_returned, sums)?;
    let for_billed = value_ceil(billed, surplus.tariff.0 as u64);
    charge(trader, for_billed, sums)?;
    sum_wh(&mut sums.minted_and_burned_wh, Wh(entry.minted_and_burned_wh as u64));
    sum_wh(&mut sums.refund_wh, refund);
    sum_uthb(&mut sums.refund_uthb, refunded);
    sum_wh(&mut sums.taken_back_wh, taken);
    sum_wh(&mut sums.returned_wh, returned);
    sum_uthb(&mut sums.returned_uthb, for_returned);
    sum_wh(&mut sums.residual_wh, billed);
    sum_uthb(&mut sums.billed_uthb, for_billed);
    Ok(())
}
