//! What a run does to one household: domain §6 and §7 to the µTHB, pure functions on a `Trader` and the run's sums.
//!
//! Here: money and energy arithmetic. Not here: accounts, leaves, who may call (instructions/).
//!
//! Bounds: an entry's Wh are below 2³², prices below 2³² (a zone's price and wheeling below 2²³ each, checked when the header is
//! committed), so every product of them fits 64 bits with room for rounding up. `RunSums` here are those of one batch: at most 77
//! entries or fills of less than 2⁵⁵ each, so they are added without checks; `add_to_run` adds them to the run's with checks. Balances are
//! changed with checks, in place: the target has nine registers, so copies of them would live on the stack at twice the price.

pub mod initial;
pub mod late;
pub mod pay_as_bid;
pub mod resettlement;
#[cfg(test)]
mod tests;

use common::{
    quantities::{MicroThb, PriceUthb, Wh},
    state::trading::{RunSums, Trader, BALANCE_LIMIT},
    Error,
};

const WH_PER_KWH: u64 = 1_000;

/// Makes an error where it happens and not before: a code put ready for every trader costs a compute unit each time.
#[cold]
#[inline(never)]
fn refused(error: Error) -> Error {
    error
}

/// What is received for energy below 2³² Wh at a price below 2³²: rounded down.
#[inline(always)]
fn value_floor(energy: Wh, price: u64) -> MicroThb {
    MicroThb(energy.0.wrapping_mul(price) / WH_PER_KWH)
}

/// What is paid for energy below 2³² Wh at a price below 2³²: rounded up. (2³² − 1)² + 999 < 2⁶⁴.
#[inline(always)]
fn value_ceil(energy: Wh, price: u64) -> MicroThb {
    MicroThb(energy.0.wrapping_mul(price).wrapping_add(WH_PER_KWH - 1) / WH_PER_KWH)
}

/// Adds to a batch's sum (bounds above). Volatile: the compiler would else carry all twenty sums through every turn of the loop in
/// registers that the target doesn't have, which costs more than a load and a store of those that change.
#[inline(always)]
fn add_to(sum: &mut u64, amount: u64) {
    let sum: *mut u64 = sum;
    // SAFETY: the pointer comes from a reference.
    unsafe { sum.write_volatile(sum.read_volatile().wrapping_add(amount)) }
}

#[inline(always)]
fn sum_wh(sum: &mut Wh, energy: Wh) {
    add_to(&mut sum.0, energy.0);
}

#[inline(always)]
fn sum_uthb(sum: &mut MicroThb, amount: MicroThb) {
    add_to(&mut sum.0, amount.0);
}

/// A balance plus an amount below 2⁶³: balances are below 2⁶³, so the sum doesn't wrap and its sign says whether it still is.
#[inline(always)]
fn increased(balance: u64, amount: u64) -> Result<u64, Error> {
    let sum = balance.wrapping_add(amount);
    if sum >= BALANCE_LIMIT {
        return Err(refused(Error::BalanceOverflow));
    }
    Ok(sum)
}

/// Marks a trader as having its entry in this run. That also refuses an account named twice in a batch.
#[inline(always)]
fn enter(trader: &mut Trader, seq: u64) -> Result<(), Error> {
    if trader.last_seq >= seq {
        return Err(refused(Error::DuplicateEntry));
    }
    trader.last_seq = seq;
    Ok(())
}

#[inline(always)]
fn add_grid(trader: &mut Trader, energy: Wh) -> Result<(), Error> {
    trader.grid_wh = Wh(increased(trader.grid_wh.0, energy.0)?);
    Ok(())
}

#[inline(always)]
fn take_grid(trader: &mut Trader, energy: Wh) -> Result<(), Error> {
    if trader.grid_wh < energy {
        return Err(refused(Error::InsufficientGrid));
    }
    trader.grid_wh.0 = trader.grid_wh.0.wrapping_sub(energy.0);
    Ok(())
}

/// Money received: debt first.
#[inline(always)]
fn credit(trader: &mut Trader, amount: MicroThb, sums: &mut RunSums) -> Result<(), Error> {
    let mut kept = amount;
    if trader.debt_uthb.0 != 0 {
        let repaid = trader.debt_uthb.min(amount);
        trader.debt_uthb.0 = trader.debt_uthb.0.wrapping_sub(repaid.0);
        kept.0 = kept.0.wrapping_sub(repaid.0);
        sum_uthb(&mut sums.debt_repaid_uthb, repaid);
    }
    trader.thbc_uthb = MicroThb(increased(trader.thbc_uthb.0, kept.0)?);
    Ok(())
}

/// Money owed to the supplier: what THBC lacks becomes debt.
#[inline(always)]
fn charge(trader: &mut Trader, amount: MicroThb, sums: &mut RunSums) -> Result<(), Error> {
    let mut paid = amount;
    if trader.thbc_uthb < amount {
        paid = trader.thbc_uthb;
        let lack = MicroThb(amount.0.wrapping_sub(paid.0));
        trader.debt_uthb = MicroThb(increased(trader.debt_uthb.0, lack.0)?);
        sum_uthb(&mut sums.debt_incurred_uthb, lack);
    }
    trader.thbc_uthb.0 = trader.thbc_uthb.0.wrapping_sub(paid.0);
    sum_uthb(&mut sums.paid_uthb, paid);
    Ok(())
}

/// Burns what is held of a deficit; the rest is residual, billed at the tariff.
#[inline(always)]
fn burn_or_bill(trader: &mut Trader, deficit: Wh, tariff: PriceUthb, sums: &mut RunSums) -> Result<(), Error> {
    if deficit <= trader.grid_wh {
        trader.grid_wh.0 = trader.grid_wh.0.wrapping_sub(deficit.0);
        return Ok(());
    }
    let residual = Wh(deficit.0.wrapping_sub(trader.grid_wh.0));
    trader.grid_wh = Wh::ZERO;
    let billed = value_ceil(residual, tariff.0 as u64);
    sum_wh(&mut sums.residual_wh, residual);
    sum_uthb(&mut sums.billed_uthb, billed);
    charge(trader, billed, sums)
}

/// Adds a batch's sums to the run's; `SumOverflow` if one reaches 2⁶³.
#[inline(never)]
pub fn add_to_run(run: &mut RunSums, batch: &RunSums) -> Result<(), Error> {
    // A run has fewer than 2¹⁰ batches of less than 2⁴⁰ Wh each.
    let net_wh = (batch.credited_wh.0 as i64).wrapping_sub(batch.drawn_wh.0 as i64);
    run.net_wh = run.net_wh.wrapping_add(net_wh);
    // Both terms are below 2⁶³, so no sum wraps, and one look at all signs suffices.
    let mut signs = 0;
    macro_rules! add {
        ($($sum:ident),*) => {$(
            run.$sum.0 = run.$sum.0.wrapping_add(batch.$sum.0);
            signs |= run.$sum.0;
        )*};
    }
    add!(
        bought_wh,
        sold_wh,
        cost_uthb,
        zone_wheeling_uthb,
        proceeds_uthb,
        fee_uthb,
        residual_wh,
        billed_uthb,
        paid_uthb
    );
    add!(
        debt_repaid_uthb,
        bought_back_wh,
        buy_back_uthb,
        minted_and_burned_wh,
        refund_wh,
        refund_uthb,
        taken_back_wh
    );
    add!(returned_wh, returned_uthb, debt_incurred_uthb, credited_wh, drawn_wh);
    if signs >= BALANCE_LIMIT {
        return Err(Error::SumOverflow);
    }
    Ok(())
}
