//! `approve_user`: discriminator. Accounts: authority s, user w, governance, registry w.
//! The registry counts whom it approves for the first time.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    state::{Governance, Registry, Status, User},
    ProgramResult,
};

use super::set_user_status::set_status;

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let user = accounts.state_mut::<User>()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let mut registry = accounts.singleton_mut::<Registry>(&ids::REGISTRY)?;
    args.end()?;
    authority.require_is(&governance.authority)?;
    governance.require_running(ids::PROGRAM_REGISTRY)?;
    if user.status == Status::Pending as u8 {
        registry.users += 1;
    }
    set_status(user, Status::Active)
}
