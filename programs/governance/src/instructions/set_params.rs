//! `set_params`: discriminator ‖ params 36. Accounts: authority s, governance w, market.
//! A change never touches an epoch that has begun, opened or not. While one is pending another is refused, so nobody can slip
//! a second change in front of an epoch that was announced with the first.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{trading::Market, Governance},
    Error, ProgramResult,
};

use super::{next_event, read_params};
use crate::events::ParamsSet;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let mut governance = accounts.singleton_mut::<Governance>(&ids::GOVERNANCE)?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    authority.require_is(&governance.authority)?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;

    let params = read_params(&mut args)?;
    args.end()?;
    require!(
        params.effective_epoch > market.last_begun()?,
        Error::EffectiveEpochTooEarly
    );
    require!(!governance.change_pending(market.last_opened), Error::ChangePending);
    if governance.has_next != 0 {
        governance.current = governance.next;
    }
    governance.next = params;
    governance.has_next = 1;
    let seq = next_event(&mut governance);
    ParamsSet {
        effective_epoch: params.effective_epoch,
        schedule_version: params.schedule_version,
    }
    .emit(&ids::GOVERNANCE.address, seq);
    Ok(())
}
