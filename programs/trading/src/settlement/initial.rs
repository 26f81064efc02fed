//! Run 0 of an epoch, one household: credit, trades, burn, bill, buy-back, in that order (domain §6).

use common::{
    quantities::{split_net, PriceUthb, Wh},
    state::{
        governance::PRICE_LIMIT,
        trading::{Mandate, RunSums, Trader, ZonePrice, SIDE_BUY, SIDE_SELL, ZONES},
    },
    Error,
};

use super::Wallet;

/// What the run reads of its epoch, once for all entries.
pub struct Terms<'a> {
    pub epoch: u32,
    pub seq: u64,
    pub fee_bp: u16,
    pub tariff: PriceUthb,
    pub feed_in: PriceUthb,
    pub buy_back: bool,
    pub zones: &'a [ZonePrice; ZONES],
}

/// The mandate that acts in an epoch, if one does.
#[inline(always)]
pub fn mandate_of(trader: &Trader, epoch: u32) -> Option<&Mandate> {
    let next = &trader.next;
    let mandate = if next.is_set != 0 && next.effective_epoch <= epoch {
        next
    } else {
        &trader.current
    };
    (mandate.is_set != 0 && mandate.effective_epoch <= epoch && epoch < mandate.end_epoch).then_some(mandate)
}

/// Settles one entry. Errors: `DuplicateEntry`, `NoPrice`, `OutsideLimits`, `InsufficientThbc`, `InsufficientGrid`,
/// `BalanceOverflow`; on an error the transaction fails, so half-written accounts don't matter.
#[inline(always)]
pub fn settle(trader: &mut Trader, net: i32, traded: i32, terms: &Terms, sums: &mut RunSums) -> Result<(), Error> {
    let mut wallet = Wallet::enter(trader, terms.seq)?;
    sums.net_wh = sums.net_wh.wrapping_add(net as i64);
    let (surplus, deficit) = split_net(net);
    wallet.add_grid(surplus)?;
    let (bought, sold) = split_net(traded);
    if bought > 0 {
        buy(trader, &mut wallet, bought, terms, sums)?;
    } else if sold > 0 {
        sell(trader, &mut wallet, sold, terms, sums)?;
    }
    if deficit > 0 {
        wallet.burn_or_bill(deficit, terms.tariff, sums)?;
    } else if terms.buy_back && surplus > sold {
        buy_back(trader, &mut wallet, surplus - sold, terms, sums)?;
    }
    wallet.leave(trader, sums);
    Ok(())
}

#[inline(always)]
fn zone_of(trader: &Trader, terms: &Terms) -> Result<ZonePrice, Error> {
    // `open_trader` refuses zones above 63 and `commit_clearing` prices of 2²³ and more: the masks change nothing, they let
    // the compiler drop the bounds check and the overflow checks behind it.
    let ZonePrice { price, wheeling } = terms.zones[trader.zone as usize & (ZONES - 1)];
    if price.0 == 0 {
        return Err(Error::NoPrice);
    }
    Ok(ZonePrice {
        price: PriceUthb(price.0 & (PRICE_LIMIT - 1)),
        wheeling: PriceUthb(wheeling.0 & (PRICE_LIMIT - 1)),
    })
}

/// Wh of recorded orders of this epoch and side whose limit holds.
#[inline(always)]
fn recorded(trader: &Trader, epoch: u32, side: u8, holds: impl Fn(PriceUthb) -> bool) -> u64 {
    let mut energy_wh = 0;
    for slot in &trader.slots {
        if slot.epoch == epoch && slot.used != 0 && slot.side == side && holds(slot.limit) {
            energy_wh += slot.energy_wh as u64;
        }
    }
    energy_wh
}

#[inline(always)]
fn buy(trader: &Trader, wallet: &mut Wallet, bought: u32, terms: &Terms, sums: &mut RunSums) -> Result<(), Error> {
    let zone = zone_of(trader, terms)?;
    let all_in = PriceUthb(zone.price.0 + zone.wheeling.0);
    let mut allowed = match mandate_of(trader, terms.epoch) {
        // A price is above 0, so `buy_max` 0 (does not buy) allows nothing.
        Some(mandate) if mandate.buy_max >= all_in => mandate.max_wh as u64,
        _ => 0,
    };
    if allowed < bought as u64 {
        allowed += recorded(trader, terms.epoch, SIDE_BUY, |limit| limit >= all_in);
        if allowed < bought as u64 {
            return Err(Error::OutsideLimits);
        }
    }
    let cost = all_in.value_ceil(bought);
    wallet.thbc = wallet.thbc.checked_sub(cost).ok_or(Error::InsufficientThbc)?;
    wallet.add_grid(bought)?;
    sums.bought_wh += Wh(bought as u64);
    sums.cost_uthb += cost;
    sums.zone_wheeling_uthb += cost - zone.price.value_floor(bought);
    Ok(())
}

#[inline(always)]
fn sell(trader: &Trader, wallet: &mut Wallet, sold: u32, terms: &Terms, sums: &mut RunSums) -> Result<(), Error> {
    let value = zone_of(trader, terms)?.price.value_floor(sold);
    let fee = value.basis_points_floor(terms.fee_bp);
    let proceeds = value - fee;
    // A limit holds where limit × sold ≤ 1000 × proceeds: exact, without dividing. Proceeds < 2⁴⁶, so the product can't wrap.
    let earned = proceeds.0.wrapping_mul(1_000);
    let holds = |limit: PriceUthb| limit.0 as u64 * sold as u64 <= earned;
    let mut allowed = match mandate_of(trader, terms.epoch) {
        Some(mandate) if mandate.sell_min.0 != 0 && holds(mandate.sell_min) => mandate.max_wh as u64,
        _ => 0,
    };
    if allowed < sold as u64 {
        allowed += recorded(trader, terms.epoch, SIDE_SELL, holds);
        if allowed < sold as u64 {
            return Err(Error::OutsideLimits);
        }
    }
    wallet.take_grid(sold)?;
    sums.sold_wh += Wh(sold as u64);
    sums.proceeds_uthb += proceeds;
    sums.fee_uthb += fee;
    wallet.credit(proceeds, sums)
}

#[inline(always)]
fn buy_back(trader: &Trader, wallet: &mut Wallet, unsold: u32, terms: &Terms, sums: &mut RunSums) -> Result<(), Error> {
    match mandate_of(trader, terms.epoch) {
        Some(mandate) if mandate.buy_back != 0 => {}
        _ => return Ok(()),
    }
    let received = terms.feed_in.value_floor(unsold);
    wallet.take_grid(unsold)?;
    sums.bought_back_wh += Wh(unsold as u64);
    sums.buy_back_uthb += received;
    wallet.credit(received, sums)
}
