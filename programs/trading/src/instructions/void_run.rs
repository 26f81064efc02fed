//! `void_run`: discriminator ‖ kind u8 ‖ run u16 ‖ depth u8 ‖ rest (proof ‖ header, or nothing). Accounts: authority s, market w,
//! epoch w, metered w, attestation, governance, registry_program.
//!
//! A late or resettlement run with a final root and no batch applied, so that the runs after it can go on. The header says which
//! seq it uses; one whose seq has passed needs none.

use common::{
    accounts::Accounts,
    args::Args,
    require,
    state::{
        trading::{STATUS_COMMITTED, STATUS_FINALISED},
        Kind,
    },
    Error, ProgramResult,
};

use super::void_epoch::Stuck;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let mut stuck = Stuck::load(&mut accounts)?;
    let (kind, run) = (Kind::from_u8(args.u8()?)?, args.u16()?);
    require!(matches!(kind, Kind::Late | Kind::Resettlement), Error::WrongKind);
    require!(stuck.epoch.epoch > stuck.market.closed_through, Error::EpochClosed);
    let epoch = stuck.epoch.epoch;
    let stuck_long = epoch <= stuck.market.void_through || stuck.market.is_stuck(epoch)?;
    require!(stuck_long, Error::NotVoidable);
    stuck.attestation(kind, run)?;
    if stuck.epoch.status == STATUS_COMMITTED {
        let present = stuck.epoch.run == run && stuck.epoch.kind == kind as u8;
        require!(present, Error::RunOutOfOrder);
    } else {
        require!(stuck.epoch.status == STATUS_FINALISED, Error::WrongStatus);
        require!(stuck.epoch.run as u32 + 1 == run as u32, Error::RunOutOfOrder);
        stuck.epoch.run = run;
        stuck.epoch.kind = kind as u8;
        stuck.commit(kind, args)?;
    }
    stuck.end()
}
