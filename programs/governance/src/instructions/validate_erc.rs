//! `validate_erc`: discriminator. Accounts: authority s, certificate w, governance.
//! The issuing body looks at the plant behind the meter once; before, the certificate can't be traded or retired.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{
        certificate::{ERC_ISSUED, ERC_VALIDATED},
        Certificate, Governance,
    },
    Error, ProgramResult,
};

use crate::{
    certificates::{next_event, require_valid},
    events::ErcValidated,
};

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let mut certificate = accounts.state_mut::<Certificate>()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    args.end()?;
    authority.require_is(&governance.authority)?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;
    require!(certificate.status == ERC_ISSUED, Error::InvalidTransition);
    require_valid(&certificate)?;
    certificate.status = ERC_VALIDATED;
    let seq = next_event(&mut certificate);
    ErcValidated {
        certificate_id: certificate.certificate_id,
    }
    .emit(certificate.address(), seq);
    Ok(())
}
