//! `match_order`: discriminator ‖ buy_slot u8 ‖ sell_slot u8. Accounts: buyer w, seller w, market w, governance.
//! Anyone brings two orders on chain together; price and amount follow from them. A price that breaks the bound halts the market
//! instead of trading, and the transaction succeeds, so that the halt stays.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{
        trading::{Market, Trader},
        Governance,
    },
    Error, ProgramResult,
};
use pinocchio::sysvars::{clock::Clock, Sysvar};

use crate::{
    continuous::{book, halts, remember, trade, Terms},
    events::{next_of, EnergyTraded, MarketHalted},
};

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let (buy_slot, sell_slot) = (args.u8()?, args.u8()?);
    args.end()?;
    let mut buyer = accounts.state_mut::<Trader>()?;
    let mut seller = accounts.state_mut::<Trader>()?;
    // First of all: two mutable accounts of one type must be two.
    require!(buyer.address() != seller.address(), Error::SelfTrade);
    let mut market = accounts.singleton_mut::<Market>(&ids::MARKET)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_TRADING)?;
    let last_begun = market.last_begun()?;
    require!(market.trades_continuously(last_begun), Error::NotContinuous);
    market.require_caught_up()?;
    require!(market.halted == 0, Error::MarketHalted);
    // Else the market's totals don't have what the balances do.
    buyer.require_settled(&market)?;
    seller.require_settled(&market)?;

    let terms = Terms {
        fee_bp: governance.params_at(last_begun).fee_bp,
        wheeling: market.continuous_wheeling,
        last_begun,
    };
    let trade = trade(&buyer, buy_slot, &seller, sell_slot, &terms)?;
    let now = u32::try_from(Clock::get()?.unix_timestamp).map_err(|_| Error::SumOverflow)?;
    let seq = next_of(&mut market);
    if halts(&market.prices, trade.price, now) {
        market.halted = 1;
        MarketHalted { price: trade.price }.emit(&ids::MARKET.address, seq);
        return Ok(());
    }
    remember(&mut market.prices, trade.price, now);
    let numbers = (buyer.placed[buy_slot as usize], seller.placed[sell_slot as usize]);
    let repaid = book(&mut market, (&mut buyer, buy_slot), (&mut seller, sell_slot), &trade)?;
    EnergyTraded {
        buyer: *buyer.address(),
        seller: *seller.address(),
        buy_number: numbers.0,
        sell_number: numbers.1,
        energy_wh: trade.energy,
        price: trade.price,
        cost_uthb: trade.cost,
        fee_uthb: trade.fee,
        wheeling_uthb: trade.wheeling,
        repaid_uthb: repaid,
    }
    .emit(&ids::MARKET.address, seq);
    Ok(())
}
