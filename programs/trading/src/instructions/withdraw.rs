//! `withdraw`: discriminator. Accounts: wallet s, trader w, market w, thbc_vault w, grid_vault w, thbc_destination w,
//! grid_destination w, thbc_mint, grid_mint, token_program, governance.
//!
//! Pays the requested amounts, as far as they are still there, while no epoch that has ended waits to be settled. The wallet signs, so the destinations are its choice; Token-2022
//! checks that they are of the mint. State is written before the CPIs.

use common::{
    accounts::{Accounts, External, Pinned, StateMut},
    args::Args,
    ids,
    quantities::{MicroThb, Wh},
    require,
    state::{
        trading::{Market, Trader},
        Governance,
    },
    Error, ProgramResult,
};
use pinocchio::cpi::{Seed, Signer};
use pinocchio_token_2022::instructions::TransferChecked;

use super::fund_account::THBC_DECIMALS;
use crate::events::{next_of, Withdrawn};

pub(super) const GRID_DECIMALS: u8 = 3;

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    args.end()?;
    let wallet = accounts.signer()?;
    let mut trader = accounts.state_mut::<Trader>()?;
    let mut market = accounts.singleton_mut::<Market>(&ids::MARKET)?;
    let vaults = [
        accounts.pinned_mut(&market.thbc_vault)?,
        accounts.pinned_mut(&market.grid_vault)?,
    ];
    let destinations = [accounts.external()?, accounts.external()?];
    let mints = [accounts.pinned(&market.thbc_mint)?, accounts.pinned(&market.grid_mint)?];
    accounts.pinned(&ids::TOKEN_2022)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_TRADING)?;
    wallet.require_is(&trader.owner)?;
    require!(trader.pending != 0, Error::NoWithdrawal);
    require!(
        market.settled_through >= trader.pending_epoch,
        Error::WithdrawalTooEarly
    );
    market.require_caught_up()?;
    // Only then do the market's totals hold what the balances do, and the vault what the totals do.
    trader.require_settled(&market)?;
    // A transfer from a vault to itself would take the amounts out of the books and leave them in the vault.
    for (vault, destination) in vaults.iter().zip(&destinations) {
        require!(vault.address() != destination.address(), Error::WrongAddress);
    }

    let (amount, energy) = pay_out(&mut trader, &mut market);
    let seq = next_of(&mut market);
    Withdrawn {
        trader: *trader.address(),
        amount_uthb: amount,
        energy_wh: energy,
    }
    .emit(&ids::MARKET.address, seq);
    for (i, (amount, decimals)) in [(amount.0, THBC_DECIMALS), (energy.0, GRID_DECIMALS)]
        .into_iter()
        .enumerate()
    {
        transfer_out(&market, &vaults[i], &mints[i], &destinations[i], amount, decimals)?;
    }
    Ok(())
}

/// Takes what is paid out of the trader's balances and the market's totals, and ends the request.
fn pay_out(trader: &mut Trader, market: &mut Market) -> (MicroThb, Wh) {
    let amount = trader.pending_uthb.min(trader.thbc_uthb);
    let energy = trader.pending_grid_wh.min(trader.grid_wh);
    trader.thbc_uthb -= amount;
    trader.grid_wh -= energy;
    trader.pending = 0;
    trader.pending_epoch = 0;
    trader.pending_uthb = MicroThb::ZERO;
    trader.pending_grid_wh = Wh::ZERO;
    market.traders_thbc_uthb -= amount;
    market.traders_grid_wh -= energy;
    market.withdrawn_uthb += amount;
    market.withdrawn_grid_wh += energy;
    (amount, energy)
}

/// Signed by the market's PDA, the vaults' owner. Nothing to pay, nothing sent.
#[inline(never)]
fn transfer_out(
    market: &StateMut<Market>,
    vault: &Pinned,
    mint: &Pinned,
    destination: &External,
    amount: u64,
    decimals: u8,
) -> ProgramResult {
    if amount == 0 {
        return Ok(());
    }
    let bump = [ids::MARKET.bump];
    let seeds = [Seed::from(ids::MARKET.seed), Seed::from(&bump)];
    let (from, to) = (vault.view(), destination.view());
    TransferChecked::new(from, mint.view(), to, market.view(), amount, decimals).invoke_signed(&[Signer::from(&seeds)])
}
