//! `rotate_device_key`: discriminator ‖ device_key 32 ‖ from_epoch u32.
//! Accounts: owner s, authority s, meter w, registry w, governance, market.
//! The owner asks and the authority, which has seen the device, agrees; from an epoch that has not begun, so that no reading
//! that was signed with the former key turns invalid. Another device gets another meter id.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{trading::Market, Governance, Meter, Registry, Status},
    Error, ProgramResult,
};

use super::next_event;
use crate::events::DeviceKeySet;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let owner = accounts.signer()?;
    let authority = accounts.signer()?;
    let mut meter = accounts.state_mut::<Meter>()?;
    let mut registry = accounts.singleton_mut::<Registry>(&ids::REGISTRY)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    let device_key = args.address()?;
    let from_epoch = args.u32()?;
    args.end()?;
    owner.require_is(&meter.owner)?;
    authority.require_is(&governance.authority)?;
    governance.require_running(ids::PROGRAM_REGISTRY)?;
    let status = Status::from_u8(meter.status)?;
    require!(
        matches!(status, Status::Active | Status::Suspended),
        Error::MeterNotActive
    );
    let begun = market.last_begun()?;
    market.require_effective(from_epoch)?;
    // A key that is announced is waited for: replacing it would leave nobody a sure one.
    require!(meter.key_from_epoch <= begun, Error::ChangePending);
    let present = *meter.device_key_at(begun);
    require!(
        device_key.as_array() != &[0; 32] && device_key != present,
        Error::InvalidDeviceKey
    );
    meter.device_key = present;
    meter.next_device_key = device_key;
    meter.key_from_epoch = from_epoch;
    let seq = next_event(&mut registry);
    DeviceKeySet {
        meter: *meter.address(),
        device_key,
        from_epoch,
    }
    .emit(&ids::REGISTRY.address, seq);
    Ok(())
}
