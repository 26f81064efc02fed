//! `revoke_erc`: discriminator. Accounts: authority s, certificate w, meter w, governance, registry_program.
//! A certificate that should not have been issued: it is void for whoever holds it, and the meter's claim is given back. A
//! retired one is used up and an expired one is gone; giving back their claims would let a kWh count twice, or for ever.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{
        certificate::{ERC_ISSUED, ERC_REVOKED, ERC_VALIDATED},
        Certificate, Governance, Meter,
    },
    Error, ProgramResult,
};

use crate::{
    certificates::{next_event, release, require_valid},
    events::ErcRevoked,
};

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let mut certificate = accounts.state_mut::<Certificate>()?;
    let meter = accounts.state_mut::<Meter>()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let program = accounts.pinned(&ids::REGISTRY_ID)?;
    args.end()?;
    authority.require_is(&governance.authority)?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;
    require!(meter.address() == &certificate.meter, Error::WrongAddress);
    require!(
        matches!(certificate.status, ERC_ISSUED | ERC_VALIDATED),
        Error::InvalidTransition
    );
    require_valid(&certificate)?;
    certificate.status = ERC_REVOKED;
    let energy = certificate.energy_wh;
    let seq = next_event(&mut certificate);
    ErcRevoked {
        certificate_id: certificate.certificate_id,
        meter: certificate.meter,
        holder: certificate.holder,
        energy_wh: energy,
    }
    .emit(certificate.address(), seq);
    release(&governance, &meter, &program, energy)
}
