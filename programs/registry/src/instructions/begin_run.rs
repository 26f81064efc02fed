//! `begin_run`: discriminator ‖ kind u8 ‖ run u16. Accounts: metered w, attestation, governance, epoch.
//! Resets sums and bitmap for run ≥ 1, once its root is final and the trading program has finalised the run before it. Anyone
//! may call it: what it does follows from the attested root.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    quantities::Wh,
    require,
    state::{
        trading::{Epoch, STATUS_FINALISED},
        Attestation, Governance, Kind, Metered,
    },
    Error, ProgramResult,
};

use crate::events::RunBegun;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let mut metered = accounts.state_mut::<Metered>()?;
    let attestation = accounts.state::<Attestation>()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let epoch = accounts.state::<Epoch>()?;
    let kind = Kind::from_u8(args.u8()?)?;
    let run = args.u16()?;
    args.end()?;
    governance.require_running(ids::PROGRAM_REGISTRY)?;
    require!(run > 0 && kind.allows_run(run), Error::InvalidRun);
    require!(epoch.epoch == metered.epoch, Error::WrongEpoch);
    require!(
        run - 1 == metered.run && epoch.run == metered.run && epoch.status == STATUS_FINALISED,
        Error::RunOutOfOrder
    );
    attestation.final_root(kind, metered.epoch, run)?;

    reset(&mut metered, run, kind as u8);
    RunBegun {
        epoch: metered.epoch,
        run,
        kind: kind as u8,
    }
    .emit(metered.address(), run as u64);
    Ok(())
}

/// Starts a run with nothing booked.
pub(super) fn reset(metered: &mut Metered, run: u16, kind: u8) {
    metered.run = run;
    metered.kind = kind;
    metered.applied = 0;
    metered.minted_wh = Wh::ZERO;
    metered.deficit_wh = Wh::ZERO;
    metered.minted_tokens_wh = Wh::ZERO;
    metered.x_negative_wh = Wh::ZERO;
    metered.shift_bound_wh = Wh::ZERO;
    metered.bitmap = [0; 128];
}
