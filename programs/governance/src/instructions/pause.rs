//! `pause`: discriminator ‖ program u8. Accounts: guardian_or_authority s, governance w.
//! The guardian can stop a program at once but can't keep it stopped: its pause ends after 7 days, and it gets no second one
//! for that program until 30 days after its last. An authority's unpause gives it none sooner: a hostile guardian would pause
//! again within the hour of each.

use common::{accounts::Accounts, args::Args, ids, require, state::Governance, Error, ProgramResult};
use pinocchio::sysvars::{clock::Clock, Sysvar};

use super::next_event;
use crate::events::PauseSet;

/// How long a pause lasts.
pub const PAUSE_SECONDS: i64 = 7 * 86_400;
/// From one pause by the guardian to its next of the same program.
pub const GUARDIAN_SECONDS: i64 = 30 * 86_400;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let signer = accounts.signer()?;
    let mut governance = accounts.singleton_mut::<Governance>(&ids::GOVERNANCE)?;
    let program = args.u8()?;
    args.end()?;
    require!(program <= ids::PROGRAM_ORACLE, Error::InvalidProgram);

    let now = Clock::get()?.unix_timestamp;
    if signer.address() != &governance.authority {
        signer.require_is(governance.guardian_now()?)?;
        let last = &mut governance.guardian_paused_at[program as usize];
        require!(*last == 0 || now >= *last + GUARDIAN_SECONDS, Error::GuardianSpent);
        *last = now;
    }
    let until = now + PAUSE_SECONDS;
    governance.paused_until[program as usize] = until;
    let seq = next_event(&mut governance);
    PauseSet {
        program,
        until,
        by: *signer.address(),
    }
    .emit(&ids::GOVERNANCE.address, seq);
    Ok(())
}
