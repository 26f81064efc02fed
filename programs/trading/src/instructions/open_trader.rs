//! `open_trader`: discriminator. Accounts: payer sw, trader w, user, market w, system_program, governance.
//! Creates `["trader", wallet]` for an active user of the registry, in the user's zone. Anyone may: a household that is admitted
//! with a meter but never opens its account would stop the first epoch that it is metered in.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{
        trading::{Mandate, Market, Trader},
        Governance, Status, User, MAX_ZONE,
    },
    Error, ProgramResult,
};

use crate::events::{next_of, TraderOpened};

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    args.end()?;
    let payer = accounts.payer()?;
    let account = accounts.vacant()?;
    let user = accounts.state::<User>()?;
    let mut market = accounts.singleton_mut::<Market>(&ids::MARKET)?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_TRADING)?;
    require!(user.status == Status::Active as u8, Error::UserNotActive);
    require!(1 <= user.zone && user.zone <= MAX_ZONE, Error::InvalidZone);

    let owner = &user.wallet;
    let (mut trader, bump) = account.create::<Trader>(&payer, &[b"trader", owner.as_array()])?;
    trader.owner = *owner;
    trader.zone = user.zone;
    trader.bump = bump;
    trader.current = Mandate::NONE;
    trader.next = Mandate::NONE;
    market.traders += 1;
    let seq = next_of(&mut market);
    TraderOpened {
        trader: *trader.address(),
        owner: *owner,
        zone: user.zone,
    }
    .emit(&ids::MARKET.address, seq);
    Ok(())
}
