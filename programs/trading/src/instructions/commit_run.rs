//! `commit_run`: discriminator ‖ kind u8 ‖ run u16 ‖ depth u8 ‖ proof ‖ header. Accounts: market, epoch w, attestation, metered,
//! governance. LATE or RESETTLEMENT, one run after the finalised one; the registry has begun the same run (`begin_run` needs the
//! former run finalised, so it comes first).

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{
        trading::{Epoch, Market, STATUS_FINALISED},
        Attestation, Governance, Kind, Metered,
    },
    Error, ProgramResult,
};

use super::commit_header;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    let mut epoch = accounts.state_mut::<Epoch>()?;
    let attestation = accounts.state::<Attestation>()?;
    let metered = accounts.state::<Metered>()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_TRADING)?;
    let (kind, run) = (Kind::from_u8(args.u8()?)?, args.u16()?);
    require!(matches!(kind, Kind::Late | Kind::Resettlement), Error::WrongKind);
    require!(epoch.status == STATUS_FINALISED, Error::WrongStatus);
    require!(epoch.run as u32 + 1 == run as u32, Error::RunOutOfOrder);
    // A resettlement reads the epoch before its own too.
    let first = if kind == Kind::Resettlement {
        epoch.epoch - 1
    } else {
        epoch.epoch
    };
    require!(first > market.closed_through, Error::EpochClosed);
    let begun = metered.epoch == epoch.epoch && metered.run == run && metered.kind == kind as u8;
    require!(begun, Error::MeteringIncomplete);
    epoch.run = run;
    epoch.kind = kind as u8;
    commit_header(&market, &mut epoch, &attestation, kind, args)
}
