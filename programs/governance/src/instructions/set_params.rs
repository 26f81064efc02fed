//! `set_params`: discriminator ‖ params 36. Accounts: authority s, governance w, market.
//! A change never touches an epoch that has begun, opened or not. While one is pending another is refused, so nobody can slip
//! a second change in front of an epoch that was announced with the first.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    state::{trading::Market, Governance},
    ProgramResult,
};

use super::{read_params, schedule};

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let mut governance = accounts.singleton_mut::<Governance>(&ids::GOVERNANCE)?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    authority.require_is(&governance.authority)?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;

    let params = read_params(&mut args)?;
    args.end()?;
    schedule(&mut governance, &market, &params)
}
