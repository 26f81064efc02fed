//! What the certificate instructions share: the claim on a meter's production by CPI, and the events' count.
//!
//! Not here: who may do what with a certificate (the instructions), how far a claim may go (the registry).

use common::{
    accounts::{Pinned, State, StateMut},
    ids,
    quantities::Wh,
    require,
    state::{Certificate, Governance, Meter},
    AccountView, Error, ProgramError, ProgramResult,
};
use pinocchio::{
    cpi::{invoke_signed, Seed, Signer},
    instruction::{InstructionAccount, InstructionView},
    sysvars::{clock::Clock, Sysvar},
};

/// How long a certificate is valid: 365 days.
pub const VALIDITY_SECONDS: i64 = 365 * 86_400;

const CLAIM: u64 = common::layout::discriminator("global:", "claim_erc");
const RELEASE: u64 = common::layout::discriminator("global:", "release_erc");

/// Claims the energy on the meter; the registry refuses what is claimed already. The signer is the governance PDA, so no one
/// claims without a certificate.
pub fn claim(governance: &State<Governance>, meter: &StateMut<Meter>, program: &Pinned, energy: Wh) -> ProgramResult {
    call(CLAIM, &[governance.view(), meter.view(), program.view()], energy)
}

/// Gives the claim back.
pub fn release(governance: &State<Governance>, meter: &StateMut<Meter>, program: &Pinned, energy: Wh) -> ProgramResult {
    call(RELEASE, &[governance.view(), meter.view(), program.view()], energy)
}

#[inline(never)]
fn call(discriminator: u64, views: &[&AccountView; 3], energy: Wh) -> ProgramResult {
    let metas = [
        InstructionAccount::readonly_signer(views[0].address()),
        InstructionAccount::writable(views[1].address()),
    ];
    let mut data = [0; 16];
    data[..8].copy_from_slice(&discriminator.to_le_bytes());
    data[8..].copy_from_slice(&energy.0.to_le_bytes());
    const BUMP: [u8; 1] = [ids::GOVERNANCE.bump];
    let seeds = [Seed::from(ids::GOVERNANCE.seed), Seed::from(&BUMP)];
    invoke_signed(
        &InstructionView {
            program_id: &ids::REGISTRY_ID,
            accounts: &metas,
            data: &data,
        },
        views,
        &[Signer::from(&seeds)],
    )
}

/// The time now, if the certificate's year is not over.
pub fn require_valid(certificate: &Certificate) -> Result<i64, ProgramError> {
    let now = Clock::get()?.unix_timestamp;
    require!(now < certificate.expires_at, Error::CertificateExpired);
    Ok(now)
}

/// The number of the certificate's next event.
pub fn next_event(certificate: &mut StateMut<Certificate>) -> u64 {
    let seq = certificate.event_seq;
    certificate.event_seq = seq + 1;
    seq
}
