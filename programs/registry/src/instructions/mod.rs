//! One file an instruction.

pub mod approve_meter;
pub mod approve_user;
pub mod begin_run;
pub mod claim_erc;
pub mod close_metered;
pub mod correct_meters;
pub mod initialize;
pub mod open_metered;
pub mod register_meter;
pub mod register_user;
pub mod release_erc;
pub mod rotate_device_key;
pub mod set_meter_status;
pub mod set_user_status;
pub mod settle_late_meters;
pub mod settle_meters;
pub mod void_metered;

use common::{
    accounts::StateMut,
    require,
    state::{Registry, MAX_ZONE},
    Error, ProgramError,
};

/// Zones are 1 … 63.
fn check_zone(zone: u16) -> Result<(), ProgramError> {
    require!((1..=MAX_ZONE).contains(&zone), Error::InvalidZone);
    Ok(())
}

/// The number of the registry's next event.
fn next_event(registry: &mut StateMut<Registry>) -> u64 {
    let seq = registry.event_seq;
    registry.event_seq = seq + 1;
    seq
}
