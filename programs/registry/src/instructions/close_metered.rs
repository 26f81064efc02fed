//! `close_metered`: discriminator. Accounts: payer w, metered w, market.
//! The rent of an epoch that trading has closed for good goes back to whoever paid it; `open_metered` refuses such epochs.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{trading::Market, Metered},
    Error, ProgramResult,
};

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    args.end()?;
    let payer = accounts.refunded()?;
    let metered = accounts.state_mut::<Metered>()?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    require!(metered.epoch <= market.closed_through, Error::HorizonNotOver);
    let recorded = metered.payer;
    metered.close(payer, &recorded)
}
