//! Run 0 of an epoch where each order trades at values of its own, one household: as `initial`, but for the trades (domain §5, §6).
//!
//! A fill names its slot by what can't depend on the order of recording: side and limit. Orders of one limit share a slot and may
//! each have their fill, since charges are per order; together they get no more Wh than they signed.

use common::{
    quantities::{MicroThb, Wh},
    require,
    state::{
        governance::PRICE_LIMIT,
        trading::{RunSums, Trader, SIDE_BUY, SIDE_SELL, ZONES},
    },
    Error,
};

use super::{
    add_grid, burn_or_bill, credit, enter,
    initial::{buy_back, left_to_mandate, mandate_of, Terms},
    sum_uthb, sum_wh, take_grid, value_ceil, value_floor,
};

/// Set in a fill's slot: the order sells.
pub const SELLS: u32 = 1 << 30;
/// Set in a fill's slot: the mandate's order; the limit is the mandate's, and left out.
pub const BY_MANDATE: u32 = 1 << 31;

/// What one order traded: its Wh, and the floor of its exact value (Wh × price, summed over its matches).
#[derive(Clone, Copy)]
pub struct Fill {
    pub slot: u32,
    pub energy: Wh,
    pub value: MicroThb,
}

/// Settles one entry. Errors: `DuplicateEntry`, `FillsNotAscending`, `SelfTrade` (fills on both sides), `ZeroAmount`, `PriceOutOfBand`,
/// `OutsideLimits` (no such slot, more Wh than it has, or its limit would not hold with charges), `InsufficientThbc`,
/// `InsufficientGrid`, `BalanceOverflow`.
pub fn settle(
    trader: &mut Trader,
    net: i64,
    fills: impl Iterator<Item = Fill>,
    terms: &Terms,
    sums: &mut RunSums,
) -> Result<(), Error> {
    enter(trader, terms.seq)?;
    if net > 0 {
        sum_wh(&mut sums.credited_wh, Wh(net as u64));
        add_grid(trader, Wh(net as u64))?;
    }
    let (mut last, mut sold) = (None, Wh::ZERO);
    // What is left of the slot that the last fill named.
    let mut left = Wh::ZERO;
    for fill in fills {
        if last != Some(fill.slot) {
            let (before, sells) = (last.unwrap_or(0), fill.slot & SELLS);
            require!(last.is_none() || before < fill.slot, Error::FillsNotAscending);
            require!(last.is_none() || before & SELLS == sells, Error::SelfTrade);
            left = allowance(trader, net, fill.slot, terms.epoch);
            last = Some(fill.slot);
        }
        require!(!fill.energy.is_zero(), Error::ZeroAmount);
        // No price reaches 2²³ and Wh are below 2³², so a value is below 2⁴⁶ and nothing below can wrap. The epoch's band is the book's to
        // look at: orders signed under an older one must still settle, and each is held to its own limit.
        require!(
            fill.value <= value_floor(fill.energy, PRICE_LIMIT as u64),
            Error::PriceOutOfBand
        );
        left = left.checked_sub(fill.energy).ok_or(Error::OutsideLimits)?;
        let limit = limit_of(trader, fill.slot, terms.epoch)?;
        if fill.slot & SELLS == 0 {
            buy(trader, &fill, limit, terms, sums)?;
        } else {
            sell(trader, &fill, limit, terms, sums)?;
            sold.0 += fill.energy.0;
        }
    }
    if net < 0 {
        let deficit = Wh(net.unsigned_abs());
        sum_wh(&mut sums.drawn_wh, deficit);
        return burn_or_bill(trader, deficit, terms.tariff, sums);
    }
    let unsold = Wh(net as u64).saturating_sub(sold);
    if terms.buy_back && !unsold.is_zero() {
        buy_back(trader, unsold, terms, sums)?;
    }
    Ok(())
}

/// Wh that a slot's orders may trade in this epoch: what they say, and by mandate what signed orders leave of the
/// surplus or deficit.
fn allowance(trader: &Trader, net: i64, slot: u32, epoch: u32) -> Wh {
    let sells = slot & SELLS != 0;
    if slot & BY_MANDATE != 0 {
        let own = if sells { net.max(0) } else { net.min(0) }.unsigned_abs();
        let side = if sells { SIDE_SELL } else { SIDE_BUY };
        let own = left_to_mandate(trader, epoch, side, own);
        return match mandate_of(trader, epoch) {
            // Other bits would be a second name of it, and so a second allowance.
            Some(mandate) if slot & !(SELLS | BY_MANDATE) == 0 => Wh(own.min(mandate.max_wh as u64)),
            _ => Wh::ZERO,
        };
    }
    let side = if sells { SIDE_SELL } else { SIDE_BUY };
    let of_slot = trader
        .slots
        .iter()
        .filter(|held| held.used != 0 && held.epoch == epoch && held.side == side && held.limit.0 == slot & !SELLS);
    // Eight at most, each below 2³².
    Wh(of_slot.map(|held| held.energy_wh as u64).sum())
}

/// The limit that a fill must hold; `OutsideLimits` where there is none, as of a mandate that doesn't trade on that side.
fn limit_of(trader: &Trader, slot: u32, epoch: u32) -> Result<u64, Error> {
    let limit = match mandate_of(trader, epoch) {
        _ if slot & BY_MANDATE == 0 => slot & !SELLS,
        Some(mandate) if slot & SELLS != 0 => mandate.sell_min.0,
        Some(mandate) => mandate.buy_max.0,
        None => 0,
    };
    require!(limit != 0, Error::OutsideLimits);
    Ok(limit as u64)
}

fn buy(trader: &mut Trader, fill: &Fill, limit: u64, terms: &Terms, sums: &mut RunSums) -> Result<(), Error> {
    let wheeling = value_ceil(
        fill.energy,
        terms.zones[trader.zone as usize & (ZONES - 1)].wheeling.0 as u64,
    );
    let cost = MicroThb(fill.value.0 + wheeling.0);
    require!(cost.0 * 1_000 <= limit * fill.energy.0, Error::OutsideLimits);
    trader.thbc_uthb = trader.thbc_uthb.checked_sub(cost).ok_or(Error::InsufficientThbc)?;
    sum_wh(&mut sums.bought_wh, fill.energy);
    sum_uthb(&mut sums.cost_uthb, cost);
    sum_uthb(&mut sums.zone_wheeling_uthb, wheeling);
    add_grid(trader, fill.energy)
}

fn sell(trader: &mut Trader, fill: &Fill, limit: u64, terms: &Terms, sums: &mut RunSums) -> Result<(), Error> {
    // A fee is at most 5 000 basis points, so below the value.
    let fee = MicroThb(fill.value.0 * terms.fee_bp as u64 / 10_000);
    let proceeds = MicroThb(fill.value.0 - fee.0);
    let holds = limit * fill.energy.0 <= proceeds.0 * 1_000;
    require!(holds, Error::OutsideLimits);
    take_grid(trader, fill.energy)?;
    sum_wh(&mut sums.sold_wh, fill.energy);
    sum_uthb(&mut sums.proceeds_uthb, proceeds);
    sum_uthb(&mut sums.fee_uthb, fee);
    credit(trader, proceeds, sums)
}
