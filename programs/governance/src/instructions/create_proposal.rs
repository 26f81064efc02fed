//! `create_proposal`: discriminator ‖ id u64 ‖ parameter u8 ‖ value u64.
//! Accounts: validator s, payer sw, validators w, proposal w, governance, system_program.
//! Ids count up from 0, so that every proposal can be found. One parameter each, its value within the bounds already now.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{Governance, Proposal, Validators},
    Error, ProgramResult,
};
use pinocchio::sysvars::{clock::Clock, Sysvar};

use crate::{
    events::ProposalCreated,
    voting::{changed, EXECUTION_SECONDS, TIME_LOCK_SECONDS, VOTING_SECONDS},
};

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let validator = accounts.signer()?;
    let payer = accounts.payer()?;
    let mut validators = accounts.singleton_mut::<Validators>(&ids::VALIDATORS)?;
    let vacant = accounts.vacant()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;
    let id = args.u64()?;
    let parameter = args.u8()?;
    let value = args.u64()?;
    args.end()?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;
    require!(validators.seat_of(validator.address()).is_some(), Error::NotAValidator);
    require!(id == validators.proposals, Error::WrongProposalId);
    changed(governance.latest(), parameter, value)?;

    let now = Clock::get()?.unix_timestamp;
    validators.proposals += 1;
    let (mut proposal, bump) = vacant.create::<Proposal>(&payer, &[b"proposal", &id.to_le_bytes()])?;
    proposal.proposer = *validator.address();
    proposal.payer = *payer.address();
    proposal.id = id;
    proposal.value = value;
    proposal.created_at = now;
    proposal.voting_ends_at = now + VOTING_SECONDS;
    proposal.executable_at = proposal.voting_ends_at + TIME_LOCK_SECONDS;
    proposal.expires_at = proposal.executable_at + EXECUTION_SECONDS;
    proposal.set_version = validators.version;
    proposal.parameter = parameter;
    proposal.eligible = validators.count;
    proposal.bump = bump;
    proposal.event_seq = 1;
    ProposalCreated {
        id,
        proposer: proposal.proposer,
        parameter,
        value,
        voting_ends_at: proposal.voting_ends_at,
    }
    .emit(proposal.address(), 0);
    Ok(())
}
