//! `unpause`: discriminator ‖ program u8. Accounts: authority s, governance w.
//! The time-lock gives participants an hour's notice; a pause that ends sooner by itself is left to do so.

use common::{accounts::Accounts, args::Args, ids, require, state::Governance, Error, ProgramResult};
use pinocchio::sysvars::{clock::Clock, Sysvar};

use super::next_event;
use crate::events::PauseSet;

/// Notice before a paused program runs again.
pub const UNPAUSE_DELAY_SECONDS: i64 = 3_600;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let mut governance = accounts.singleton_mut::<Governance>(&ids::GOVERNANCE)?;
    authority.require_is(&governance.authority)?;
    let program = args.u8()?;
    args.end()?;
    require!(program <= ids::PROGRAM_ORACLE, Error::InvalidProgram);

    let at = program as usize;
    let lifted = Clock::get()?.unix_timestamp + UNPAUSE_DELAY_SECONDS;
    let until = governance.paused_until[at].min(lifted);
    governance.paused_until[at] = until;
    let seq = next_event(&mut governance);
    PauseSet {
        program,
        until,
        by: *authority.address(),
    }
    .emit(&ids::GOVERNANCE.address, seq);
    Ok(())
}
