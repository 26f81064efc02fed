//! `set_mandate`: discriminator ‖ sell_min u32 ‖ buy_max u32 ‖ max_wh u32 ‖ expiry_epoch u32 ‖ buy_back u8.
//! Accounts: wallet s, trader w, market, governance. Acts from the next epoch that has not begun.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    quantities::PriceUthb,
    require,
    state::{
        governance::PRICE_TICK,
        trading::{Mandate, Market, Trader, EPOCH_SECONDS, TIME_SIMULATED},
        Governance, Params,
    },
    Error, ProgramError, ProgramResult,
};
use pinocchio::sysvars::{clock::Clock, Sysvar};

use crate::{events::MandateSet, mandates};

/// 0, or on the tick and in the band.
fn is_limit(price: PriceUthb, params: &Params) -> bool {
    let in_band = params.price_min <= price.0 && price.0 <= params.price_max;
    price.0 == 0 || (in_band && price.0.is_multiple_of(PRICE_TICK))
}

/// The mandate's priority among orders, Unix seconds: the chain's clock. Where time is simulated, the start of the epoch that it
/// acts from, so that the same market has the same priorities, and so the same roots, on whatever chain it is played.
fn set_at(market: &Market, begun: u32) -> Result<i64, ProgramError> {
    if market.time_mode == TIME_SIMULATED {
        return Ok((begun as i64 + 1) * EPOCH_SECONDS as i64);
    }
    Ok(Clock::get()?.unix_timestamp)
}

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let wallet = accounts.signer()?;
    let mut trader = accounts.state_mut::<Trader>()?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_TRADING)?;
    wallet.require_is(&trader.owner)?;

    let begun = market.last_begun()?;
    let mandate = Mandate {
        set_at: set_at(&market, begun)?,
        sell_min: PriceUthb(args.u32()?),
        buy_max: PriceUthb(args.u32()?),
        max_wh: args.u32()?,
        end_epoch: args.u32()?,
        buy_back: args.u8()?,
        ..Mandate::NONE
    };
    args.end()?;
    let params = governance.params_at(begun.saturating_add(1));
    let limits = is_limit(mandate.sell_min, params) && is_limit(mandate.buy_max, params);
    require!(limits && mandate.buy_back <= 1, Error::InvalidMandate);
    mandates::set(&mut trader, mandate, begun, market.settled_through)?;
    let seq = trader.event_seq;
    trader.event_seq = seq + 1;
    MandateSet {
        effective_epoch: trader.next.effective_epoch,
        end_epoch: mandate.end_epoch,
        sell_min: mandate.sell_min,
        buy_max: mandate.buy_max,
        max_wh: mandate.max_wh,
        buy_back: mandate.buy_back,
    }
    .emit(trader.address(), seq);
    Ok(())
}
