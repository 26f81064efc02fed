//! `open_metered`: discriminator ‖ epoch u32. Accounts: payer sw, metered w, governance, system_program, market.
//! Anyone may open an epoch's booking: it holds nothing until an attested batch is applied.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{trading::Market, Governance, Kind, Metered},
    Error, ProgramResult,
};

/// Epochs stay below 2²⁴ (the year 2448): the last byte of the seed is then zero, which no meter id contains, so
/// `"metered" ‖ epoch` never equals `"meter" ‖ meter_id`.
const EPOCH_LIMIT: u32 = 1 << 24;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let payer = accounts.payer()?;
    let vacant = accounts.vacant()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    let epoch = args.u32()?;
    args.end()?;
    governance.require_running(ids::PROGRAM_REGISTRY)?;
    require!(epoch > 0 && epoch < EPOCH_LIMIT, Error::WrongEpoch);
    // Else a batch of its old root could be booked again, or for the first time, long after.
    require!(epoch > market.closed_through, Error::EpochClosed);

    let (mut metered, bump) = vacant.create::<Metered>(&payer, &[b"metered", &epoch.to_le_bytes()])?;
    metered.payer = *payer.address();
    metered.epoch = epoch;
    metered.kind = Kind::Metering as u8;
    metered.bump = bump;
    Ok(())
}
