//! `approve_user`: discriminator. Accounts: authority s, user w, governance.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    state::{Governance, Status, User},
    ProgramResult,
};

use super::set_user_status::set_status;

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let user = accounts.state_mut::<User>()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    args.end()?;
    authority.require_is(&governance.authority)?;
    governance.require_running(ids::PROGRAM_REGISTRY)?;
    set_status(user, Status::Active)
}
