//! `commit_clearing`: discriminator ‖ depth u8 ‖ proof ‖ header. Accounts: market w, epoch w, attestation, metered, governance.
//! Run 0: its metering must be complete, so that what is traded was measured.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{
        trading::{Epoch, Market, FLAG_PAY_AS_BID, STATUS_OPEN},
        Attestation, Governance, Kind, Metered,
    },
    Error, ProgramResult,
};

use super::commit_header;

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let mut market = accounts.singleton_mut::<Market>(&ids::MARKET)?;
    let mut epoch = accounts.state_mut::<Epoch>()?;
    let attestation = accounts.state::<Attestation>()?;
    let metered = accounts.state::<Metered>()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_TRADING)?;
    require!(epoch.run == 0 && epoch.status == STATUS_OPEN, Error::WrongStatus);
    require!(epoch.epoch > market.closed_through, Error::EpochClosed);
    commit_header(&mut market, &mut epoch, &attestation, Kind::Clearing, args)?;
    if market.is_continuous(epoch.epoch) {
        // Matching has moved the balances since: an auction's orders would not be covered.
        require!(trades_nothing(&epoch), Error::InvalidHeader);
    }
    let same_run = metered.epoch == epoch.epoch && metered.run == 0 && metered.kind == Kind::Metering as u8;
    let complete = same_run && metered.applied == epoch.registry_batches;
    require!(complete, Error::MeteringIncomplete);
    Ok(())
}

fn trades_nothing(epoch: &Epoch) -> bool {
    let by_order = epoch.flags & FLAG_PAY_AS_BID != 0;
    !by_order && epoch.orders == 0 && epoch.lost_wh.is_zero() && epoch.zones.iter().all(|zone| zone.price.0 == 0)
}
