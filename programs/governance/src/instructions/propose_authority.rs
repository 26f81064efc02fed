//! `propose_authority`: discriminator ‖ new 32. Accounts: authority s, governance w.
//! Two steps, so that a mistyped key can't take the authority away for ever.

use common::{accounts::Accounts, args::Args, ids, state::Governance, ProgramResult};

use super::next_event;
use crate::events::AuthorityProposed;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let mut governance = accounts.singleton_mut::<Governance>(&ids::GOVERNANCE)?;
    authority.require_is(&governance.authority)?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;
    let new = args.address()?;
    args.end()?;
    governance.pending_authority = new;
    let seq = next_event(&mut governance);
    AuthorityProposed { new }.emit(&ids::GOVERNANCE.address, seq);
    Ok(())
}
