//! `approve_meter`: discriminator ‖ first_epoch u32 ‖ baseline_production_wh u64 ‖ baseline_consumption_wh u64.
//! Accounts: authority s, meter w, registry w, governance.
//! The baseline is the registers at admission: nothing before it counts, so an old meter can't mint its past. A suspended meter
//! is admitted again the same way, never for an epoch it settled or was suspended before.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    quantities::Wh,
    require,
    state::{Governance, Meter, Registry, Status},
    Error, ProgramResult,
};

use super::next_event;
use crate::events::MeterApproved;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let mut meter = accounts.state_mut::<Meter>()?;
    let mut registry = accounts.singleton_mut::<Registry>(&ids::REGISTRY)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let first_epoch = args.u32()?;
    let (production, consumption) = (Wh(args.u64()?), Wh(args.u64()?));
    args.end()?;
    authority.require_is(&governance.authority)?;

    let present = Status::from_u8(meter.status)?;
    require!(present.may_become(Status::Active), Error::InvalidTransition);
    require!(
        first_epoch > meter.last_epoch && first_epoch >= meter.inactive_from,
        Error::MeterOutOfOrder
    );
    if present == Status::Pending {
        meter.first_epoch = first_epoch;
        registry.meters += 1;
    } else {
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
