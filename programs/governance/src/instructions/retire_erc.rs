//! `retire_erc`: discriminator ‖ beneficiary 32. Accounts: holder s, certificate w, governance.
//! The end of a certificate: its energy is used up for the beneficiary, and its account stays as the proof.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{
        certificate::{ERC_RETIRED, ERC_VALIDATED},
        Certificate, Governance,
    },
    Error, ProgramResult,
};

use crate::{
    certificates::{next_event, require_valid},
    events::ErcRetired,
};

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let holder = accounts.signer()?;
    let mut certificate = accounts.state_mut::<Certificate>()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let beneficiary = args.address()?;
    args.end()?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;
    holder.require_is(&certificate.holder)?;
    require!(certificate.status == ERC_VALIDATED, Error::InvalidTransition);
    let now = require_valid(&certificate)?;
    require!(beneficiary.as_array() != &[0; 32], Error::InvalidData);
    certificate.status = ERC_RETIRED;
    certificate.beneficiary = beneficiary;
    certificate.retired_at = now;
    let seq = next_event(&mut certificate);
    ErcRetired {
        certificate_id: certificate.certificate_id,
        holder: *holder.address(),
        beneficiary,
        energy_wh: certificate.energy_wh,
    }
    .emit(certificate.address(), seq);
    Ok(())
}
