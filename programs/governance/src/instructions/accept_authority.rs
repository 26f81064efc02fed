//! `accept_authority`: discriminator. Accounts: new s, governance w.

use common::{accounts::Accounts, args::Args, ids, require, state::Governance, Address, Error, ProgramResult};

use super::next_event;
use crate::events::AuthorityChanged;

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let new = accounts.signer()?;
    let mut governance = accounts.singleton_mut::<Governance>(&ids::GOVERNANCE)?;
    args.end()?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;
    // The zero key can't sign, so an empty proposal is accepted by nobody.
    require!(
        new.address() == &governance.pending_authority,
        Error::NoPendingAuthority
    );
    let former = governance.authority;
    governance.authority = *new.address();
    governance.pending_authority = Address::new_from_array([0; 32]);
    let seq = next_event(&mut governance);
    AuthorityChanged {
        former,
        new: *new.address(),
    }
    .emit(&ids::GOVERNANCE.address, seq);
    Ok(())
}
