//! `vote`: discriminator ‖ approve u8. Accounts: validator s, payer sw, validators, proposal w, vote w, governance,
//! system_program.
//! The account `["vote", proposal, validator]` exists once and is not closed while votes are taken, so nobody votes twice;
//! the proposal keeps one bit per seat, so that votes of removed validators drop out of the count.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{Governance, Proposal, Validators, Vote},
    Error, ProgramResult,
};
use pinocchio::sysvars::{clock::Clock, Sysvar};

use crate::events::VoteCast;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let validator = accounts.signer()?;
    let payer = accounts.payer()?;
    let validators = accounts.singleton::<Validators>(&ids::VALIDATORS)?;
    let mut proposal = accounts.state_mut::<Proposal>()?;
    let vacant = accounts.vacant()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;
    let approve = args.u8()?;
    args.end()?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;
    require!(approve <= 1, Error::InvalidData);
    let now = Clock::get()?.unix_timestamp;
    require!(now < proposal.voting_ends_at, Error::VotingClosed);
    let seat = validators
        .seat_of(validator.address())
        .filter(|seat| validators.seats[*seat].since <= proposal.set_version)
        .ok_or(Error::NotAValidator)?;

    let key = *proposal.address();
    let seeds = [b"vote".as_slice(), key.as_array(), validator.address().as_array()];
    let (mut vote, bump) = vacant.create::<Vote>(&payer, &seeds)?;
    vote.proposal = key;
    vote.validator = *validator.address();
    vote.payer = *payer.address();
    vote.cast_at = now;
    vote.approve = approve;
    vote.bump = bump;
    let bit = 1u32 << seat;
    // A seat passed on after a vote keeps its bit: the new one can't vote here, and `standing` does not count it.
    if approve == 1 {
        proposal.yes |= bit;
    } else {
        proposal.no |= bit;
    }
    let seq = proposal.event_seq;
    proposal.event_seq = seq + 1;
    VoteCast {
        id: proposal.id,
        validator: *validator.address(),
        approve,
    }
    .emit(proposal.address(), seq);
    Ok(())
}
