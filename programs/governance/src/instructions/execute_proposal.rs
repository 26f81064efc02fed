//! `execute_proposal`: discriminator. Accounts: proposal w, governance w, validators, market.
//! Anyone may, once: what it does follows from the votes. The value acts from the next epoch that has not begun; while another
//! change is pending it waits, as `set_params` does.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{trading::Market, Governance, Proposal, Validators},
    Error, ProgramResult,
};
use pinocchio::sysvars::{clock::Clock, Sysvar};

use super::schedule;
use crate::{
    events::ProposalExecuted,
    voting::{changed, passes, standing},
};

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let mut proposal = accounts.state_mut::<Proposal>()?;
    let mut governance = accounts.singleton_mut::<Governance>(&ids::GOVERNANCE)?;
    let validators = accounts.singleton::<Validators>(&ids::VALIDATORS)?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    args.end()?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;
    require!(proposal.executed == 0, Error::AlreadyExecuted);
    let now = Clock::get()?.unix_timestamp;
    require!(now >= proposal.executable_at, Error::TimeLocked);
    require!(now < proposal.expires_at, Error::ProposalExpired);
    let yes = standing(&validators.seats, proposal.yes, proposal.set_version);
    let no = standing(&validators.seats, proposal.no, proposal.set_version);
    require!(passes(yes, no, proposal.eligible as u32), Error::ProposalRejected);

    let mut params = changed(governance.latest(), proposal.parameter, proposal.value)?;
    params.effective_epoch = market.last_begun()? + 1;
    proposal.executed = 1;
    proposal.effective_epoch = params.effective_epoch;
    let seq = proposal.event_seq;
    proposal.event_seq = seq + 1;
    ProposalExecuted {
        id: proposal.id,
        parameter: proposal.parameter,
        value: proposal.value,
        effective_epoch: params.effective_epoch,
        yes: yes as u8,
        no: no as u8,
    }
    .emit(proposal.address(), seq);
    schedule(&mut governance, &market, &params)
}
