//! `close_vote`: discriminator. Accounts: payer w, vote w, proposal.
//! The account keeps a validator from voting twice, so it is needed until voting on its proposal is over; the proposal counts by
//! its own bits. A proposal that is closed was over.

use common::{
    accounts::{Accounts, State},
    args::Args,
    ids, require,
    state::{Proposal, Vote},
    Error, ProgramResult,
};
use pinocchio::sysvars::{clock::Clock, Sysvar};

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let payer = accounts.refunded()?;
    let vote = accounts.state_mut::<Vote>()?;
    let proposal = accounts.external()?;
    args.end()?;
    require!(proposal.address() == &vote.proposal, Error::WrongAddress);
    // An address that held a proposal is the system program's again only after `close_proposal`.
    if !proposal.view().owned_by(&ids::SYSTEM_PROGRAM) {
        let proposal = State::<Proposal>::of(&proposal)?;
        require!(
            Clock::get()?.unix_timestamp >= proposal.voting_ends_at,
            Error::TimeLocked
        );
    }
    let recorded = vote.payer;
    vote.close(payer, &recorded)
}
