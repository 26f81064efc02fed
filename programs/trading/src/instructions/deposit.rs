//! `deposit`: discriminator ‖ amount u64. Accounts: wallet s, trader w, market w, source w, thbc_vault w, thbc_mint, token_program,
//! governance. Debt first. State is written before the CPI; if the transfer fails, the transaction does.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    quantities::MicroThb,
    require,
    state::{
        trading::{Market, Trader, BALANCE_LIMIT},
        Governance,
    },
    Error, ProgramResult,
};

use super::fund_account::transfer_in;
use crate::events::{next_of, Deposited};

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let amount = MicroThb(args.u64()?);
    args.end()?;
    let wallet = accounts.signer()?;
    let mut trader = accounts.state_mut::<Trader>()?;
    let mut market = accounts.singleton_mut::<Market>(&ids::MARKET)?;
    let source = accounts.external()?;
    let vault = accounts.pinned_mut(&market.thbc_vault)?;
    let mint = accounts.pinned(&market.thbc_mint)?;
    accounts.pinned(&ids::TOKEN_2022)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_TRADING)?;
    wallet.require_is(&trader.owner)?;
    require!(!amount.is_zero(), Error::ZeroAmount);
    // Checked before it is added: balances stay below the limit, so no sum wraps.
    require!(amount.0 < BALANCE_LIMIT, Error::BalanceOverflow);

    let repaid = trader.debt_uthb.min(amount);
    trader.debt_uthb -= repaid;
    trader.thbc_uthb += amount - repaid;
    require!(trader.thbc_uthb.0 < BALANCE_LIMIT, Error::BalanceOverflow);
    market.traders_thbc_uthb += amount - repaid;
    market.supplier_thbc_uthb += repaid;
    market.debt_repaid_uthb += repaid;
    // The total may lag behind until the run that made the debt is finalised, so it is signed.
    market.traders_debt_uthb -= i64::try_from(repaid.0).map_err(|_| Error::SumOverflow)?;
    market.deposited_uthb += amount;
    let seq = next_of(&mut market);
    Deposited {
        trader: *trader.address(),
        amount_uthb: amount,
        repaid_uthb: repaid,
    }
    .emit(&ids::MARKET.address, seq);
    transfer_in(&source, &mint, &vault, &wallet, amount)
}
