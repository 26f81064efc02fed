//! `request_withdrawal`: discriminator ‖ thbc u64 ‖ grid u64. Accounts: wallet s, trader w, market, governance.
//!
//! The amounts stay in the balances until `withdraw`, and still pay bills; but they cover no order of an epoch that has not begun.
//! No more than the balances of now is asked for: a request for all that may ever come would let later deposits and proceeds out
//! without waiting for their own epochs.

use common::{
    accounts::Accounts,
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

use crate::events::WithdrawalRequested;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let (amount, energy) = (MicroThb(args.u64()?), Wh(args.u64()?));
    args.end()?;
    let wallet = accounts.signer()?;
    let mut trader = accounts.state_mut::<Trader>()?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_TRADING)?;
    wallet.require_is(&trader.owner)?;
    let (amount, energy) = (amount.min(trader.thbc_uthb), energy.min(trader.grid_wh));
    require!(!amount.is_zero() || !energy.is_zero(), Error::ZeroAmount);
    // A request can't be changed: a later one would let the amounts of this one out before its own epochs are settled.
    require!(trader.pending == 0, Error::WithdrawalPending);

    let epoch = market.last_begun()?;
    trader.pending = 1;
    trader.pending_epoch = epoch;
    trader.pending_uthb = amount;
    trader.pending_grid_wh = energy;
    let seq = trader.event_seq;
    trader.event_seq = seq + 1;
    WithdrawalRequested {
        epoch,
        amount_uthb: amount,
        energy_wh: energy,
    }
    .emit(trader.address(), seq);
    Ok(())
}
