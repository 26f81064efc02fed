//! `close_attestation`: discriminator. Accounts: payer w, attestation w, market.
//! The rent of a root of an epoch that trading has closed for good goes back to whoever paid it: no program reads it any more.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{trading::Market, Attestation},
    Error, ProgramResult,
};

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    args.end()?;
    let payer = accounts.refunded()?;
    let attestation = accounts.state_mut::<Attestation>()?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    require!(attestation.epoch <= market.closed_through, Error::HorizonNotOver);
    let recorded = attestation.payer;
    attestation.close(payer, &recorded)
}
