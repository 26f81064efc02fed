//! `revoke_mandate`: discriminator. Accounts: wallet s, trader w, market, governance.
//! Stored at once as the end epoch: the next one that has not begun.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    state::{
        trading::{Market, Trader},
        Governance,
    },
    ProgramResult,
};

use crate::{events::MandateRevoked, mandates};

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    args.end()?;
    let wallet = accounts.signer()?;
    let mut trader = accounts.state_mut::<Trader>()?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_TRADING)?;
    wallet.require_is(&trader.owner)?;
    let end_epoch = mandates::revoke(&mut trader, market.last_begun()?)?;
    let seq = trader.event_seq;
    trader.event_seq = seq + 1;
    MandateRevoked { end_epoch }.emit(trader.address(), seq);
    Ok(())
}
