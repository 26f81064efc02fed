//! `set_user_status`: discriminator ‖ status u8 (2 suspended, 3 retired). Accounts: authority s, user w, governance.
//! It keeps the wallet from registering meters and opening a trader; what is already under way settles.

use common::{
    accounts::{Accounts, StateMut},
    args::Args,
    ids, require,
    state::{Governance, Status, User},
    Error, ProgramResult,
};

use crate::events::UserStatusSet;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let user = accounts.state_mut::<User>()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let status = Status::from_u8(args.u8()?)?;
    args.end()?;
    authority.require_is(&governance.authority)?;
    require!(
        matches!(status, Status::Suspended | Status::Retired),
        Error::InvalidTransition
    );
    set_status(user, status)
}

/// Moves a user to a status that its present one allows, and tells it.
pub fn set_status(mut user: StateMut<User>, status: Status) -> ProgramResult {
    let present = Status::from_u8(user.status)?;
    require!(present.may_become(status), Error::InvalidTransition);
    user.status = status as u8;
    let seq = user.event_seq;
    user.event_seq = seq + 1;
    UserStatusSet {
        wallet: user.wallet,
        status: status as u8,
        user_type: user.user_type,
        zone: user.zone,
    }
    .emit(user.address(), seq);
    Ok(())
}
