//! `register_meter`: discriminator ‖ meter_type u8 ‖ zone u16 ‖ rating_w u32 ‖ device_key 32 ‖ meter_id string.
//! Accounts: owner s, payer sw, user, meter w, registry, system_program, governance.
//! meter_id has 1–32 printable ASCII characters: without zero bytes two ids can't lead to one padded name, nor to the
//! address of a `metered` account. Whoever registers an id that is another's meter keeps nobody from it for long: once the
//! authority has retired a registration that it never admitted, the id can be registered again.

use common::{
    accounts::{Accounts, MaybeState},
    args::Args,
    ids, require,
    state::{Governance, Meter, Registry, Status, User},
    Error, ProgramResult,
};

use super::check_zone;
use crate::events::MeterRegistered;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let owner = accounts.signer()?;
    let payer = accounts.payer()?;
    let user = accounts.state::<User>()?;
    let meter = accounts.maybe_state::<Meter>()?;
    accounts.singleton::<Registry>(&ids::REGISTRY)?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_REGISTRY)?;

    let meter_type = args.u8()?;
    let zone = args.u16()?;
    let rating_w = args.u32()?;
    let device_key = args.address()?;
    let id = args.string()?;
    args.end()?;
    require!(is_meter_id(id), Error::InvalidMeterId);
    require!(meter_type <= 2 && rating_w > 0, Error::InvalidMeter);
    check_zone(zone)?;
    let open = user.status == Status::Pending as u8 || user.status == Status::Active as u8;
    require!(&user.wallet == owner.address() && open, Error::UserNotActive);
    require!(user.zone == zone, Error::ZoneMismatch);

    let mut meter = match meter {
        MaybeState::Vacant(vacant) => {
            let (mut meter, bump) = vacant.create::<Meter>(&payer, &[b"meter", id])?;
            meter.bump = bump;
            meter
        }
        MaybeState::Existing(mut meter) => {
            let refused = meter.status == Status::Retired as u8 && meter.first_epoch == 0;
            require!(refused, Error::AlreadyExists);
            require!(&meter.meter_id[..meter.id_len as usize] == id, Error::WrongAddress);
            meter.registrations += 1;
            meter
        }
    };
    meter.owner = *owner.address();
    meter.device_key = device_key;
    meter.meter_id[..id.len()].copy_from_slice(id);
    meter.id_len = id.len() as u8;
    meter.meter_type = meter_type;
    meter.status = Status::Pending as u8;
    meter.zone = zone;
    meter.rating_w = rating_w;
    MeterRegistered {
        owner: meter.owner,
        device_key,
        meter_id: meter.meter_id,
        meter_type,
        zone,
        rating_w,
    }
    .emit(meter.address(), meter.registrations as u64);
    Ok(())
}

/// 1 to 32 characters from space to tilde.
pub fn is_meter_id(id: &[u8]) -> bool {
    (1..=32).contains(&id.len()) && id.iter().all(|byte| (0x20..=0x7e).contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_id_is_printable_and_has_no_zero_bytes() {
        assert!(is_meter_id(b"MEA-001"));
        assert!(is_meter_id(&[b'x'; 32]));
        assert!(!is_meter_id(b""));
        assert!(!is_meter_id(&[b'x'; 33]));
        assert!(!is_meter_id(b"MEA-001\0"));
        assert!(!is_meter_id("Zähler".as_bytes()));
    }
}
