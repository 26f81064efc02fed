//! `commit_run`: discriminator ‖ kind u8 ‖ run u16 ‖ depth u8 ‖ proof ‖ header. Accounts: market w, epoch w, attestation, metered,
//! governance. LATE or RESETTLEMENT, one run after the finalised one; its metering must be complete in the registry (`begin_run`
//! needs the former run finalised, so that comes first).

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
    let mut market = accounts.singleton_mut::<Market>(&ids::MARKET)?;
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
    epoch.run = run;
    epoch.kind = kind as u8;
    commit_header(&mut market, &mut epoch, &attestation, kind, args)?;
    // What is credited here is minted there first: a run whose metering can't apply any more never begins to trade.
    let same_run = metered.epoch == epoch.epoch && metered.run == run && metered.kind == kind as u8;
    let complete = same_run && metered.applied == epoch.registry_batches;
    require!(complete, Error::MeteringIncomplete);
    Ok(())
}
