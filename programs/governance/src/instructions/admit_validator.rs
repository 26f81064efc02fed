//! `admit_validator`: discriminator ‖ validator 32. Accounts: authority s, payer sw, validators w, governance, system_program.
//! The set's account is made with the first admission, which only the authority can do. A seat remembers the version of the set
//! that it was taken with, so that nobody admitted later votes on a proposal made before.

use common::{
    accounts::{Accounts, MaybeState},
    args::Args,
    ids, require,
    state::{Governance, Validators},
    Error, ProgramResult,
};

use crate::events::ValidatorAdmitted;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let payer = accounts.payer()?;
    let validators = accounts.maybe_state::<Validators>()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;
    let key = args.address()?;
    args.end()?;
    authority.require_is(&governance.authority)?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;

    let mut validators = match validators {
        MaybeState::Existing(state) => {
            require!(state.address() == &ids::VALIDATORS.address, Error::WrongAddress);
            state
        }
        MaybeState::Vacant(vacant) => {
            let mut state = vacant.create_singleton::<Validators>(&payer, &ids::VALIDATORS)?;
            state.bump = ids::VALIDATORS.bump;
            state
        }
    };
    require!(
        key.as_array() != &[0; 32] && validators.seat_of(&key).is_none(),
        Error::InvalidValidator
    );
    let seat = validators.free_seat().ok_or(Error::InvalidValidator)?;
    let version = validators.version + 1;
    validators.version = version;
    validators.count += 1;
    validators.seats[seat].key = key;
    validators.seats[seat].since = version;
    let seq = validators.event_seq;
    validators.event_seq = seq + 1;
    ValidatorAdmitted {
        validator: key,
        version,
        seat: seat as u8,
    }
    .emit(&ids::VALIDATORS.address, seq);
    Ok(())
}
