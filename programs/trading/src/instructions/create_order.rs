//! `create_order`: discriminator ‖ epoch u32 ‖ side u8 ‖ limit u32 ‖ energy_wh u32. Accounts: wallet s, trader w, market w, governance.
//! An order on chain, of an epoch that has not begun: it may be matched or cancelled until its epoch begins, and counts in that
//! epoch's auction. Equal ones add up, and take their place in arrival order anew.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    quantities::PriceUthb,
    require,
    state::{
        governance::PRICE_TICK,
        trading::{Market, Trader, SIDE_SELL},
        Governance,
    },
    Error, ProgramResult,
};

use crate::{
    events::OrderPlaced,
    orders::{place, Placed, MAX_ORDER_WH},
};

/// An order names an epoch at most 7 days ahead.
const HORIZON_EPOCHS: u32 = 7 * 96;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let wallet = accounts.signer()?;
    let mut trader = accounts.state_mut::<Trader>()?;
    let mut market = accounts.singleton_mut::<Market>(&ids::MARKET)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let (epoch, side, limit, energy_wh) = (args.u32()?, args.u8()?, args.u32()?, args.u32()?);
    args.end()?;
    governance.require_running(ids::PROGRAM_TRADING)?;
    wallet.require_is(&trader.owner)?;
    let begun = market.last_begun()?;
    require!(
        epoch > begun && epoch - begun <= HORIZON_EPOCHS,
        Error::OrderEpochOutOfRange
    );
    let sound = side <= SIDE_SELL && 0 < energy_wh && energy_wh <= MAX_ORDER_WH;
    require!(sound && limit.is_multiple_of(PRICE_TICK), Error::InvalidOrder);
    let params = governance.params_at(epoch);
    require!(
        params.price_min <= limit && limit <= params.price_max,
        Error::PriceOutOfBand
    );

    // From 1 on: 0 marks a slot whose order was not placed on chain.
    let number = market.order_seq + 1;
    market.order_seq = number;
    let order = Placed {
        epoch,
        side,
        limit: PriceUthb(limit),
        energy_wh,
        number,
    };
    let slot = place(&mut trader, &order, market.settled_through)?;
    let seq = trader.event_seq;
    trader.event_seq = seq + 1;
    OrderPlaced {
        number,
        slot,
        epoch,
        side,
        limit: order.limit,
        energy_wh,
    }
    .emit(trader.address(), seq);
    Ok(())
}
