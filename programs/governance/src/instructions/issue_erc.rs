//! `issue_erc`: discriminator ‖ certificate_id 32 ‖ energy_wh u64.
//! Accounts: owner s, payer sw, meter w, certificate w, governance, registry_program, system_program.
//! The owner of a Solar or Hybrid meter certifies whole kWh of booked production that no certificate claims; the registry keeps
//! the claim on the meter, so a kWh backs at most one certificate whatever becomes of it.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    quantities::Wh,
    require,
    state::{certificate::ERC_ISSUED, Certificate, Governance, Meter, Status},
    Error, ProgramResult,
};
use pinocchio::sysvars::{clock::Clock, Sysvar};

use crate::{
    certificates::{claim, next_event, VALIDITY_SECONDS},
    events::ErcIssued,
};

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let owner = accounts.signer()?;
    let payer = accounts.payer()?;
    let meter = accounts.state_mut::<Meter>()?;
    let vacant = accounts.vacant()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let program = accounts.pinned(&ids::REGISTRY_ID)?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;
    let certificate_id = *args.array::<32>()?;
    let energy = Wh(args.u64()?);
    args.end()?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;
    owner.require_is(&meter.owner)?;
    require!(meter.status == Status::Active as u8, Error::MeterNotActive);

    let now = Clock::get()?.unix_timestamp;
    let (mut certificate, bump) = vacant.create::<Certificate>(&payer, &[b"erc", &certificate_id])?;
    certificate.certificate_id = certificate_id;
    certificate.meter = *meter.address();
    certificate.producer = *owner.address();
    certificate.holder = *owner.address();
    certificate.energy_wh = energy;
    certificate.issued_at = now;
    certificate.expires_at = now + VALIDITY_SECONDS;
    certificate.zone = meter.zone;
    certificate.meter_type = meter.meter_type;
    certificate.status = ERC_ISSUED;
    certificate.bump = bump;
    let seq = next_event(&mut certificate);
    ErcIssued {
        certificate_id,
        meter: *meter.address(),
        holder: *owner.address(),
        energy_wh: energy,
        expires_at: certificate.expires_at,
    }
    .emit(certificate.address(), seq);
    claim(&governance, &meter, &program, energy)
}
