//! `approve_meter`: discriminator ‖ first_epoch u32 ‖ baseline_production_wh u64 ‖ baseline_consumption_wh u64.
//! Accounts: authority s, meter w, registry w, governance, market.
//! The baseline is the registers at admission: nothing before it counts, so an old meter can't mint its past; nor can its first
//! epoch have begun. A suspended meter is admitted again the same way, once all epochs before its suspension are settled: a batch
//! with one of them may be attested, and would no longer apply.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    quantities::Wh,
    require,
    state::{trading::Market, Governance, Meter, Registry, Status},
    Error, ProgramResult,
};

use super::next_event;
use crate::events::MeterApproved;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let mut meter = accounts.state_mut::<Meter>()?;
    let mut registry = accounts.singleton_mut::<Registry>(&ids::REGISTRY)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    let first_epoch = args.u32()?;
    let (production, consumption) = (Wh(args.u64()?), Wh(args.u64()?));
    args.end()?;
    authority.require_is(&governance.authority)?;
    governance.require_running(ids::PROGRAM_REGISTRY)?;

    let present = Status::from_u8(meter.status)?;
    require!(present.may_become(Status::Active), Error::InvalidTransition);
    require!(
        first_epoch > meter.last_epoch && first_epoch >= meter.inactive_from,
        Error::MeterOutOfOrder
    );
    market.require_effective(first_epoch)?;
    if present == Status::Pending {
        meter.first_epoch = first_epoch;
        registry.meters += 1;
    } else {
        require!(meter.next_epoch() >= meter.inactive_from, Error::MeterUnsettled);
        // The gap counts as passed; first_epoch stays, so corrections of what was settled before it remain possible.
        meter.last_epoch = first_epoch - 1;
    }
    meter.status = Status::Active as u8;
    meter.inactive_from = u32::MAX;
    meter.baseline_production_wh = production;
    meter.baseline_consumption_wh = consumption;
    let seq = next_event(&mut registry);
    MeterApproved {
        meter: *meter.address(),
        first_epoch,
        baseline_production_wh: production,
        baseline_consumption_wh: consumption,
    }
    .emit(&ids::REGISTRY.address, seq);
    Ok(())
}
