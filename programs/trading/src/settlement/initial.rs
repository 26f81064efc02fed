//! Run 0 of an epoch, one household: credit, trades, burn, bill, buy-back, in that order (domain §6).

use common::{
    quantities::{MicroThb, PriceUthb, Wh},
    state::trading::{Mandate, RunSums, Trader, ZonePrice, SIDE_BUY, SIDE_SELL, SLOT_RECORDED, ZONES},
    Error,
};

use super::{add_grid, burn_or_bill, credit, enter, refused, sum_uthb, sum_wh, take_grid, value_ceil, value_floor};

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

/// The mandate that acts in an epoch that is not settled yet, if it has not ended by then.
///
/// `current` needs no look at its own beginning: a mandate becomes current only once every epoch before it is settled.
#[inline(always)]
pub fn mandate_of(trader: &Trader, epoch: u32) -> Option<&Mandate> {
    let mandate = if trader.next.effective_epoch <= epoch {
        &trader.next
    } else {
        &trader.current
    };
    (epoch < mandate.end_epoch).then_some(mandate)
}

/// Settles one entry; `net` and `traded` (bought +, sold −) are i32 on the wire. Errors: `DuplicateEntry`, `NoPrice`, `OutsideLimits`,
/// `InsufficientThbc`, `InsufficientGrid`, `BalanceOverflow`; on an error the transaction fails, so half-written accounts don't matter.
#[inline(always)]
pub fn settle(trader: &mut Trader, net: i64, traded: i64, terms: &Terms, sums: &mut RunSums) -> Result<(), Error> {
    enter(trader, terms.seq)?;
    if net > 0 {
        sum_wh(&mut sums.credited_wh, Wh(net as u64));
        add_grid(trader, Wh(net as u64))?;
    }
    if traded > 0 {
        buy(trader, net, Wh(traded as u64), terms, sums)?;
    } else if traded < 0 {
        sell(trader, net, Wh(traded.wrapping_neg() as u64), terms, sums)?;
    }
    if net < 0 {
        let deficit = Wh(net.wrapping_neg() as u64);
        sum_wh(&mut sums.drawn_wh, deficit);
        return burn_or_bill(trader, deficit, terms.tariff, sums);
    }
    if terms.buy_back {
        // Surplus that is not sold.
        let unsold = if traded < 0 { net.wrapping_add(traded) } else { net };
        if unsold > 0 {
            buy_back(trader, Wh(unsold as u64), terms, sums)?;
        }
    }
    Ok(())
}

#[inline(always)]
fn zone_of<'a>(trader: &Trader, terms: &Terms<'a>) -> Result<&'a ZonePrice, Error> {
    // `open_trader` refuses zones above 63: the mask changes nothing, it lets the compiler drop the bounds check.
    let zone = &terms.zones[trader.zone as usize & (ZONES - 1)];
    if zone.price.0 == 0 {
        return Err(refused(Error::NoPrice));
    }
    Ok(zone)
}

/// Wh that a trader may trade beyond the quick look at its mandate: by mandate what its signed orders leave of `own`, its deficit or
/// surplus, and by its orders of this epoch and side whose limit holds. Few traders get here: kept out of line.
#[cold]
#[inline(never)]
fn allowed_with_orders(
    trader: &Trader,
    epoch: u32,
    side: u8,
    most: u64,
    own: u64,
    holds: impl Fn(PriceUthb) -> bool,
) -> u64 {
    let mut energy_wh = most.min(left_to_mandate(trader, epoch, side, own));
    for slot in &trader.slots {
        if slot.epoch == epoch && slot.used != 0 && slot.side == side && holds(slot.limit) {
            energy_wh += slot.energy_wh as u64;
        }
    }
    energy_wh
}

/// What the household's own signed orders of this epoch leave to its mandate of `own`, its deficit or surplus: nothing where they are
/// on the other side (domain §4). Orders placed on chain don't count here: the book may have dropped one, and then the mandate acts.
pub(super) fn left_to_mandate(trader: &Trader, epoch: u32, side: u8, own: u64) -> u64 {
    let mut left = own;
    for slot in &trader.slots {
        if slot.epoch == epoch && slot.used == SLOT_RECORDED {
            left = if slot.side == side {
                left.saturating_sub(slot.energy_wh as u64)
            } else {
                0
            };
        }
    }
    left
}

#[inline(always)]
fn buy(trader: &mut Trader, net: i64, bought: Wh, terms: &Terms, sums: &mut RunSums) -> Result<(), Error> {
    let zone = zone_of(trader, terms)?;
    let price = zone.price.0 as u64;
    // Both below 2²³.
    let all_in = price.wrapping_add(zone.wheeling.0 as u64);
    let holds = |limit: PriceUthb| limit.0 as u64 >= all_in;
    let allowed = match mandate_of(trader, terms.epoch) {
        // A price is above 0, so `buy_max` 0 (does not buy) allows nothing.
        Some(mandate) if holds(mandate.buy_max) => mandate.max_wh as u64,
        _ => 0,
    };
    // A mandate is an order for what the wallet's net energy is: it buys no more than the deficit.
    if allowed < bought.0 || bought.0 as i64 > net.wrapping_neg() {
        let own = net.min(0).unsigned_abs();
        let allowed = allowed_with_orders(trader, terms.epoch, SIDE_BUY, allowed, own, holds);
        if allowed < bought.0 {
            return Err(refused(Error::OutsideLimits));
        }
    }
    let cost = value_ceil(bought, all_in);
    if trader.thbc_uthb < cost {
        return Err(refused(Error::InsufficientThbc));
    }
    trader.thbc_uthb.0 = trader.thbc_uthb.0.wrapping_sub(cost.0);
    sum_wh(&mut sums.bought_wh, bought);
    sum_uthb(&mut sums.cost_uthb, cost);
    // The energy part is rounded down, so it is never above the cost.
    let wheeling = cost.0.wrapping_sub(value_floor(bought, price).0);
    sum_uthb(&mut sums.zone_wheeling_uthb, MicroThb(wheeling));
    add_grid(trader, bought)
}

#[inline(always)]
fn sell(trader: &mut Trader, net: i64, sold: Wh, terms: &Terms, sums: &mut RunSums) -> Result<(), Error> {
    let value = value_floor(sold, zone_of(trader, terms)?.price.0 as u64);
    // The value is below 2⁴⁶ and a fee at most 5 000 basis points, so the fee is below the value and nothing here can wrap.
    let fee = MicroThb(value.0.wrapping_mul(terms.fee_bp as u64) / 10_000);
    let proceeds = MicroThb(value.0.wrapping_sub(fee.0));
    // A limit holds where limit × sold ≤ 1000 × proceeds: exact, without dividing.
    let earned = proceeds.0.wrapping_mul(1_000);
    let holds = |limit: PriceUthb| (limit.0 as u64).wrapping_mul(sold.0) <= earned;
    let allowed = match mandate_of(trader, terms.epoch) {
        Some(mandate) if holds(mandate.sell_min) && mandate.sell_min.0 != 0 => mandate.max_wh as u64,
        _ => 0,
    };
    // By mandate no more than the surplus.
    if allowed < sold.0 || sold.0 as i64 > net {
        let own = net.max(0) as u64;
        let allowed = allowed_with_orders(trader, terms.epoch, SIDE_SELL, allowed, own, holds);
        if allowed < sold.0 {
            return Err(refused(Error::OutsideLimits));
        }
    }
    take_grid(trader, sold)?;
    sum_wh(&mut sums.sold_wh, sold);
    sum_uthb(&mut sums.proceeds_uthb, proceeds);
    sum_uthb(&mut sums.fee_uthb, fee);
    credit(trader, proceeds, sums)
}

#[inline(always)]
pub(super) fn buy_back(trader: &mut Trader, unsold: Wh, terms: &Terms, sums: &mut RunSums) -> Result<(), Error> {
    match mandate_of(trader, terms.epoch) {
        Some(mandate) if mandate.buy_back != 0 => {}
        _ => return Ok(()),
    }
    take_grid(trader, unsold)?;
    let received = value_floor(unsold, terms.feed_in.0 as u64);
    sum_wh(&mut sums.bought_back_wh, unsold);
    sum_uthb(&mut sums.buy_back_uthb, received);
    credit(trader, received, sums)
}
