//! `void_metered`: discriminator ‖ run u16. Accounts: market s (PDA), metered w.
//! The trading program voids a run, here and there in one transaction: only its market can sign. From now on no batch of the run is
//! booked; a run that had not begun here counts as begun.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{registry::KIND_VOID, Metered},
    Error, ProgramResult,
};

use crate::{events::MeteredVoided, instructions::begin_run::reset};

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let market = accounts.signer()?;
    market.require_is(&ids::MARKET.address)?;
    let mut metered = accounts.state_mut::<Metered>()?;
    let run = args.u16()?;
    args.end()?;
    if metered.run == run {
        require!(metered.applied == 0 && metered.kind != KIND_VOID, Error::NotVoidable);
    } else {
        require!(metered.run as u32 + 1 == run as u32, Error::RunOutOfOrder);
    }
    reset(&mut metered, run, KIND_VOID);
    MeteredVoided {
        epoch: metered.epoch,
        run,
    }
    .emit(metered.address(), run as u64);
    Ok(())
}
