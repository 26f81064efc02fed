//! `set_meter_status`: discriminator ‖ status u8 (2 suspended, 3 retired) ‖ from_epoch u32.
//! Accounts: authority s, meter w, registry w, governance, market.
//! It acts from an epoch that has not begun, so that a batch already attested still applies; epochs before it settle.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{trading::Market, Governance, Meter, Registry, Status},
    Error, ProgramResult,
};

use super::next_event;
use crate::events::MeterStatusSet;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let mut meter = accounts.state_mut::<Meter>()?;
    let mut registry = accounts.singleton_mut::<Registry>(&ids::REGISTRY)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    let status = Status::from_u8(args.u8()?)?;
    let from_epoch = args.u32()?;
    args.end()?;
    authority.require_is(&governance.authority)?;

    let present = Status::from_u8(meter.status)?;
    require!(
        matches!(status, Status::Suspended | Status::Retired) && present.may_become(status),
        Error::InvalidTransition
    );
    market.require_effective(from_epoch)?;
    meter.status = status as u8;
    // min: retiring a suspended meter gives it no further epochs, and a pending one never had any.
    meter.inactive_from = meter.inactive_from.min(from_epoch);
    let seq = next_event(&mut registry);
    MeterStatusSet {
        meter: *meter.address(),
        status: status as u8,
        from_epoch,
    }
    .emit(&ids::REGISTRY.address, seq);
    Ok(())
}
