//! `register_user`: discriminator ‖ user_type u8 ‖ zone u16. Accounts: wallet s, payer sw, user w, system_program,
//! governance.
//! user_type 0 consumer, 1 prosumer. The account is pending until the authority approves it.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{Governance, Status, User},
    Error, ProgramResult,
};

use super::check_zone;
use crate::events::UserStatusSet;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let wallet = accounts.signer()?;
    let payer = accounts.payer()?;
    let vacant = accounts.vacant()?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_REGISTRY)?;
    let user_type = args.u8()?;
    let zone = args.u16()?;
    args.end()?;
    require!(user_type <= 1, Error::InvalidData);
    check_zone(zone)?;

    let (mut user, bump) = vacant.create::<User>(&payer, &[b"user", wallet.address().as_array()])?;
    user.wallet = *wallet.address();
    user.zone = zone;
    user.user_type = user_type;
    user.status = Status::Pending as u8;
    user.bump = bump;
    user.event_seq = 1;
    UserStatusSet {
        wallet: *wallet.address(),
        status: Status::Pending as u8,
        user_type,
        zone,
    }
    .emit(user.address(), 0);
    Ok(())
}
