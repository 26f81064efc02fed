//! `cancel_order`: discriminator ‖ slot u8. Accounts: wallet s, trader w, market, governance.
//! Until the order's epoch begins: the book is frozen at the gate, and what was recorded is not an order any more but an allowance.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{
        trading::{Market, Slot, Trader, SLOT_PLACED},
        Governance,
    },
    Error, ProgramResult,
};

use crate::events::OrderCancelled;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let slot = args.u8()?;
    args.end()?;
    let wallet = accounts.signer()?;
    let mut trader = accounts.state_mut::<Trader>()?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_TRADING)?;
    wallet.require_is(&trader.owner)?;
    let order = *trader.slots.get(slot as usize).ok_or(Error::NoSuchOrder)?;
    let standing = order.used == SLOT_PLACED && order.epoch > market.last_begun()?;
    require!(standing, Error::NoSuchOrder);

    let number = trader.placed[slot as usize];
    trader.slots[slot as usize] = Slot::default();
    trader.placed[slot as usize] = 0;
    let seq = trader.event_seq;
    trader.event_seq = seq + 1;
    OrderCancelled {
        number,
        slot,
        energy_wh: order.energy_wh,
    }
    .emit(trader.address(), seq);
    Ok(())
}
