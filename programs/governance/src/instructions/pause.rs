//! `pause`: discriminator ‖ program u8. Accounts: guardian_or_authority s, governance w.
//! The guardian can stop a program at once but can't keep it stopped: its pause ends after 7 days, and it gets no second one
//! for that program until the authority has lifted a pause.

use common::{accounts::Accounts, args::Args, ids, require, state::Governance, Error, ProgramResult};
use pinocchio::sysvars::{clock::Clock, Sysvar};

use super::next_event;
use crate::events::PauseSet;

/// How long a pause lasts.
pub const PAUSE_SECONDS: i64 = 7 * 86_400;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let signer = accounts.signer()?;
    let mut governance = accounts.singleton_mut::<Governance>(&ids::GOVERNANCE)?;
    let program = args.u8()?;
    args.end()?;
    require!(program <= ids::PROGRAM_ORACLE, Error::InvalidProgram);

    if signer.address() != &governance.authority {
        signer.require_is(&governance.guardian)?;
        let bit = 1u8 << program;
        require!(governance.guardian_spent & bit == 0, Error::GuardianSpent);
        governance.guardian_spent |= bit;
    }
    let until = Clock::get()?.unix_timestamp + PAUSE_SECONDS;
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
