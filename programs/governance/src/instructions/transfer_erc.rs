//! `transfer_erc`: discriminator ‖ to 32. Accounts: holder s, certificate w, governance.
//! Only whole certificates pass on; who passes one on keeps nothing of it, since the meter's claim stays.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{certificate::ERC_VALIDATED, Certificate, Governance},
    Error, ProgramResult,
};

use crate::{
    certificates::{next_event, require_valid},
    events::ErcTransferred,
};

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let holder = accounts.signer()?;
    let mut certificate = accounts.state_mut::<Certificate>()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let to = args.address()?;
    args.end()?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;
    holder.require_is(&certificate.holder)?;
    require!(certificate.status == ERC_VALIDATED, Error::InvalidTransition);
    require_valid(&certificate)?;
    // Nobody signs for the zero key: it would be lost.
    require!(to.as_array() != &[0; 32], Error::InvalidData);
    certificate.holder = to;
    let seq = next_event(&mut certificate);
    ErcTransferred {
        certificate_id: certificate.certificate_id,
        from: *holder.address(),
        to,
    }
    .emit(certificate.address(), seq);
    Ok(())
}
