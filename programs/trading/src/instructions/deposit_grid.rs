//! `deposit_grid`: discriminator ‖ amount u64. Accounts: wallet s, trader w, market w, source w, grid_vault w, grid_mint,
//! token_program, governance. GRID is only ever minted into the vault, so what comes in was withdrawn before.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    quantities::Wh,
    require,
    state::{
        trading::{Market, Trader, BALANCE_LIMIT},
        Governance,
    },
    Error, ProgramResult,
};
use pinocchio_token_2022::instructions::TransferChecked;

use super::withdraw::GRID_DECIMALS;
use crate::events::{next_of, GridDeposited};

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let amount = Wh(args.u64()?);
    args.end()?;
    let wallet = accounts.signer()?;
    let mut trader = accounts.state_mut::<Trader>()?;
    let mut market = accounts.singleton_mut::<Market>(&ids::MARKET)?;
    let source = accounts.external()?;
    let vault = accounts.pinned_mut(&market.grid_vault)?;
    let mint = accounts.pinned(&market.grid_mint)?;
    accounts.pinned(&ids::TOKEN_2022)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_TRADING)?;
    market.require_caught_up()?;
    wallet.require_is(&trader.owner)?;
    require!(!amount.is_zero(), Error::ZeroAmount);
    // Checked before it is added: balances stay below the limit, so no sum wraps.
    require!(amount.0 < BALANCE_LIMIT, Error::BalanceOverflow);

    trader.grid_wh += amount;
    require!(trader.grid_wh.0 < BALANCE_LIMIT, Error::BalanceOverflow);
    market.traders_grid_wh += amount;
    market.deposited_grid_wh += amount;
    let seq = next_of(&mut market);
    GridDeposited {
        trader: *trader.address(),
        energy_wh: amount,
    }
    .emit(&ids::MARKET.address, seq);
    // State is written; Token-2022 checks the source's mint, owner and balance.
    let (from, to) = (source.view(), vault.view());
    TransferChecked::new(from, mint.view(), to, wallet.view(), amount.0, GRID_DECIMALS).invoke()
}
