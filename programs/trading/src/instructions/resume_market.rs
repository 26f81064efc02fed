//! `resume_market`: discriminator. Accounts: authority s, market w, governance.
//! Continuous trading goes on after a halt, from a clean history of prices.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{
        trading::{Market, PriceSecond, PRICE_SECONDS},
        Governance,
    },
    Error, ProgramResult,
};

use crate::events::{next_of, MarketResumed};

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    args.end()?;
    let authority = accounts.signer()?;
    let mut market = accounts.singleton_mut::<Market>(&ids::MARKET)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    authority.require_is(&governance.authority)?;
    require!(market.halted != 0, Error::InvalidTransition);
    market.halted = 0;
    market.prices = [PriceSecond::default(); PRICE_SECONDS];
    let seq = next_of(&mut market);
    MarketResumed {
        settled_through: market.settled_through,
    }
    .emit(&ids::MARKET.address, seq);
    Ok(())
}
