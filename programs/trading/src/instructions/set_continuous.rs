//! `set_continuous`: discriminator ‖ on u8 ‖ wheeling u32. Accounts: authority s, market w, governance.
//!
//! The mechanism of the market, from the next epoch that has not begun: auctions at the gate, or matching of orders on chain.
//! Never both at a time: matching moves balances that cover an auction's orders, and an auction that can't settle blocks all runs.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    quantities::PriceUthb,
    require,
    state::{trading::Market, Governance},
    Error, ProgramResult,
};

use crate::events::{next_of, ContinuousSet};

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let (on, wheeling) = (args.u8()?, args.u32()?);
    args.end()?;
    let authority = accounts.signer()?;
    let mut market = accounts.singleton_mut::<Market>(&ids::MARKET)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    authority.require_is(&governance.authority)?;
    require!(on <= 1, Error::InvalidData);
    let next = market.last_begun()?.checked_add(1).ok_or(Error::WrongEpoch)?;
    if on == 1 {
        // One window at a time: the epochs of the one before are known by it until they are settled.
        require!(
            market.settled_through + 1 >= market.continuous_end,
            Error::InvalidTransition
        );
        require!(
            wheeling <= governance.params_at(next).wheeling_cap,
            Error::WheelingAboveCap
        );
        market.continuous_from = next;
        market.continuous_end = u32::MAX;
        market.continuous_wheeling = PriceUthb(wheeling);
    } else {
        require!(market.continuous_end == u32::MAX, Error::InvalidTransition);
        market.continuous_end = next;
    }
    let seq = next_of(&mut market);
    ContinuousSet {
        from_epoch: market.continuous_from,
        end_epoch: market.continuous_end,
        wheeling: market.continuous_wheeling,
    }
    .emit(&ids::MARKET.address, seq);
    Ok(())
}
