//! `close_proposal`: discriminator. Accounts: payer w, proposal w.
//! Once nothing can come of it any more, by anyone: the rent goes back to whoever paid it. Its number is never given again, since
//! the validator set counts proposals; what became of it stays in the events.

use common::{accounts::Accounts, args::Args, require, state::Proposal, Error, ProgramResult};
use pinocchio::sysvars::{clock::Clock, Sysvar};

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let payer = accounts.refunded()?;
    let proposal = accounts.state_mut::<Proposal>()?;
    args.end()?;
    let over = proposal.executed != 0 || Clock::get()?.unix_timestamp >= proposal.expires_at;
    require!(over, Error::TimeLocked);
    let recorded = proposal.payer;
    proposal.close(payer, &recorded)
}
