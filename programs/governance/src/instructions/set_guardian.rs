//! `set_guardian`: discriminator ‖ new 32. Accounts: authority s, governance w.
//! A lost or hostile guardian can be replaced, but not in front of a change that it would stop: the new one acts after a week, and
//! every change of the authority's that harms has a shorter notice. Announcing again replaces it, and the week begins anew.

use common::{accounts::Accounts, args::Args, ids, require, state::Governance, Error, ProgramResult};
use pinocchio::sysvars::{clock::Clock, Sysvar};

use super::next_event;
use crate::events::GuardianSet;

/// Notice before another guardian acts; longer than an oracle set's and an unpause's.
pub const GUARDIAN_DELAY_SECONDS: i64 = 7 * 86_400;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let mut governance = accounts.singleton_mut::<Governance>(&ids::GOVERNANCE)?;
    authority.require_is(&governance.authority)?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;
    let new = args.address()?;
    args.end()?;
    require!(new.as_array() != &[0; 32], Error::InvalidKeySet);
    governance.guardian = *governance.guardian_now()?;
    governance.next_guardian = new;
    governance.guardian_from = Clock::get()?.unix_timestamp + GUARDIAN_DELAY_SECONDS;
    let seq = next_event(&mut governance);
    GuardianSet {
        new,
        from: governance.guardian_from,
    }
    .emit(&ids::GOVERNANCE.address, seq);
    Ok(())
}
