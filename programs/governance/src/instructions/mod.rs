//! One file an instruction.

pub mod accept_authority;
pub mod admit_validator;
pub mod close_proposal;
pub mod close_vote;
pub mod create_proposal;
pub mod execute_proposal;
pub mod initialize;
pub mod issue_erc;
pub mod pause;
pub mod propose_authority;
pub mod remove_validator;
pub mod retire_erc;
pub mod revoke_erc;
pub mod set_guardian;
pub mod set_oracles;
pub mod set_params;
pub mod transfer_erc;
pub mod unpause;
pub mod validate_erc;
pub mod vote;

use common::{
    accounts::StateMut,
    args::Args,
    ids, require,
    state::{trading::Market, Governance, Params},
    Address, Error, ProgramError, ProgramResult,
};

use crate::events::ParamsSet;

/// Makes these the next parameters, by whatever right: never for an epoch that has begun, nor while a change is pending.
fn schedule(governance: &mut StateMut<Governance>, market: &Market, params: &Params) -> ProgramResult {
    market.require_effective(params.effective_epoch)?;
    require!(!governance.change_pending(market.last_opened), Error::ChangePending);
    if governance.has_next != 0 {
        governance.current = governance.next;
    }
    governance.next = *params;
    governance.has_next = 1;
    let seq = next_event(governance);
    ParamsSet {
        effective_epoch: params.effective_epoch,
        schedule_version: params.schedule_version,
    }
    .emit(&ids::GOVERNANCE.address, seq);
    Ok(())
}

/// Reads `Params`, packed as in the account, and checks their bounds.
fn read_params(args: &mut Args) -> Result<Params, ProgramError> {
    let params = Params {
        effective_epoch: args.u32()?,
        fee_bp: args.u16()?,
        vat_bp: args.u16()?,
        wheeling_cap: args.u32()?,
        tariff_on_peak: args.u32()?,
        tariff_off_peak: args.u32()?,
        feed_in: args.u32()?,
        price_min: args.u32()?,
        price_max: args.u32()?,
        halt_bound_bp: args.u16()?,
        schedule_version: args.u16()?,
    };
    params.check()?;
    Ok(params)
}

/// Reads `threshold ‖ vec<pubkey>` and checks 2k > n, 1 ≤ k ≤ n.
fn read_oracles(args: &mut Args) -> Result<(u8, [Address; 16], u8), ProgramError> {
    let threshold = args.u8()?;
    let (oracles, count) = args.keys::<16>()?;
    require!(
        threshold >= 1 && threshold <= count && 2 * threshold as u32 > count as u32,
        Error::InvalidThreshold
    );
    Ok((threshold, oracles, count))
}

/// The number of the next event.
fn next_event(governance: &mut StateMut<Governance>) -> u64 {
    let seq = governance.event_seq;
    governance.event_seq = seq + 1;
    seq
}
