//! `remove_validator`: discriminator ‖ validator 32. Accounts: authority s, validators w, governance.
//! Its votes on proposals that are not executed yet no longer count; the quorum they counted towards stays as high.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    state::{Governance, Validators},
    Address, Error, ProgramResult,
};

use crate::events::ValidatorRemoved;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let mut validators = accounts.singleton_mut::<Validators>(&ids::VALIDATORS)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let key = args.address()?;
    args.end()?;
    authority.require_is(&governance.authority)?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;

    let seat = validators.seat_of(&key).ok_or(Error::NotAValidator)?;
    validators.version += 1;
    validators.count -= 1;
    validators.seats[seat].key = Address::new_from_array([0; 32]);
    validators.seats[seat].since = 0;
    let seq = validators.event_seq;
    validators.event_seq = seq + 1;
    ValidatorRemoved {
        validator: key,
        version: validators.version,
        seat: seat as u8,
    }
    .emit(&ids::VALIDATORS.address, seq);
    Ok(())
}
