//! What a run does to one household: domain §6 and §7 to the µTHB, pure functions on a `Trader` and the run's sums.
//!
//! Here: money and energy arithmetic. Not here: accounts, leaves, who may call (instructions/).
//!
//! Bounds: an entry's Wh are below 2³², a zone's price and wheeling below 2²³ each (checked when the header is committed), so every
//! product fits 64 bits. Everything that outlives an entry is added with checks (`+` on quantities ends the transaction on overflow);
//! only the signed changes wrap, as sums of differences of checked balances that `finalize_epoch` compares with the checked sums.

pub mod initial;
pub mod late;
pub mod resettlement;
#[cfg(test)]
mod tests;

use common::{
    quantities::{MicroThb, PriceUthb, Wh},
    state::trading::{RunSums, Trader},
    Error,
};

/// Balances while an entry is worked on.
#[derive(Clone, Copy)]
pub(crate) struct Wallet {
    grid: Wh,
    thbc: MicroThb,
    debt: MicroThb,
}

impl Wallet {
    /// Takes the balances out of a trader that has no entry in this run yet, and marks it as having one.
    /// That also refuses an account named twice in a batch.
    #[inline(always)]
    fn enter(trader: &mut Trader, seq: u64) -> Result<Self, Error> {
        if trader.last_seq >= seq {
            return Err(Error::DuplicateEntry);
        }
        trader.last_seq = seq;
        Ok(Self {
            grid: trader.grid_wh,
            thbc: trader.thbc_uthb,
            debt: trader.debt_uthb,
        })
    }

    /// Writes the balances back and adds their change to the run's sums.
    #[inline(always)]
    fn leave(self, trader: &mut Trader, sums: &mut RunSums) {
        let grid = self.grid.0.wrapping_sub(trader.grid_wh.0) as i64;
        let thbc = self.thbc.0.wrapping_sub(trader.thbc_uthb.0) as i64;
        let debt = self.debt.0.wrapping_sub(trader.debt_uthb.0) as i64;
        sums.grid_delta_wh = sums.grid_delta_wh.wrapping_add(grid);
        sums.thbc_delta_uthb = sums.thbc_delta_uthb.wrapping_add(thbc);
        sums.debt_delta_uthb = sums.debt_delta_uthb.wrapping_add(debt);
        trader.grid_wh = self.grid;
        trader.thbc_uthb = self.thbc;
        trader.debt_uthb = self.debt;
    }

    #[inline(always)]
    fn add_grid(&mut self, energy_wh: u32) -> Result<(), Error> {
        let grid = self.grid.0.checked_add(energy_wh as u64);
        self.grid = Wh(grid.ok_or(Error::BalanceOverflow)?);
        Ok(())
    }

    #[inline(always)]
    fn take_grid(&mut self, energy_wh: u32) -> Result<(), Error> {
        let grid = self.grid.checked_sub(Wh(energy_wh as u64));
        self.grid = grid.ok_or(Error::InsufficientGrid)?;
        Ok(())
    }

    /// Money received: debt first.
    #[inline(always)]
    fn credit(&mut self, amount: MicroThb, sums: &mut RunSums) -> Result<(), Error> {
        let repaid = self.debt.min(amount);
        let thbc = self.thbc.0.checked_add((amount - repaid).0);
        self.thbc = MicroThb(thbc.ok_or(Error::BalanceOverflow)?);
        if !repaid.is_zero() {
            self.debt -= repaid;
            sums.debt_repaid_uthb += repaid;
        }
        Ok(())
    }

    /// Money owed to the supplier: what THBC lacks becomes debt.
    #[inline(always)]
    fn charge(&mut self, amount: MicroThb, sums: &mut RunSums) -> Result<(), Error> {
        let paid = self.thbc.min(amount);
        self.thbc -= paid;
        let debt = self.debt.0.checked_add((amount - paid).0);
        self.debt = MicroThb(debt.ok_or(Error::BalanceOverflow)?);
        sums.paid_uthb += paid;
        Ok(())
    }

    /// Burns what is held of a deficit; the rest is residual, billed at the tariff.
    #[inline(always)]
    fn burn_or_bill(&mut self, deficit_wh: u32, tariff: PriceUthb, sums: &mut RunSums) -> Result<(), Error> {
        let deficit = Wh(deficit_wh as u64);
        let burned = self.grid.min(deficit);
        self.grid -= burned;
        if burned < deficit {
            let residual = deficit - burned;
            // At most `deficit_wh`, so it fits 32 bits again.
            let billed = tariff.value_ceil(residual.0 as u32);
            sums.residual_wh += residual;
            sums.billed_uthb += billed;
            self.charge(billed, sums)?;
        }
        Ok(())
    }
}
