//! Continuous trading: what two orders trade, at which price, and when the market halts (domain §5). Pure.
//!
//! All limits are all-in. The resting order's net limit is the price: of an offer `ask ÷ (1 − fee)` rounded up, of a bid
//! `bid − wheeling`. So whoever brings two orders together chooses neither price nor amount.

use common::{
    quantities::{MicroThb, PriceUthb, Wh},
    state::trading::{Market, PriceSecond, Slot, Trader, SIDE_BUY, SIDE_SELL, SLOT_PLACED},
    Error,
};

/// Seconds that a price is remembered.
const MINUTE: u32 = 60;
const BASIS_POINTS: u64 = 10_000;

/// What every match of the moment has in common.
#[derive(Clone, Copy)]
pub struct Terms {
    pub fee_bp: u16,
    pub wheeling: PriceUthb,
    /// Orders stand until their epoch begins.
    pub last_begun: u32,
}

/// A trade: `cost` is `value + wheeling`, the seller gets `value − fee`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trade {
    pub energy: Wh,
    pub price: PriceUthb,
    pub cost: MicroThb,
    pub fee: MicroThb,
    pub wheeling: MicroThb,
    pub proceeds: MicroThb,
}

/// The order in a slot that may still be matched: placed on chain, of this side, its epoch not begun. Error `NoSuchOrder`.
fn standing(trader: &Trader, slot: u8, side: u8, last_begun: u32) -> Result<(&Slot, u64), Error> {
    let (order, number) = trader
        .slots
        .get(slot as usize)
        .zip(trader.placed.get(slot as usize))
        .ok_or(Error::NoSuchOrder)?;
    if order.used != SLOT_PLACED || order.side != side || order.epoch <= last_begun {
        return Err(Error::NoSuchOrder);
    }
    Ok((order, *number))
}

/// The trade of two standing orders: as much as both want and their owners hold without what they asked to withdraw.
///
/// Errors: `NoSuchOrder`; `NotMatchable` where zones differ, the orders don't cross or nothing is covered; `OutsideLimits` never,
/// it is checked again on the amounts.
pub fn trade(buyer: &Trader, buy_slot: u8, seller: &Trader, sell_slot: u8, terms: &Terms) -> Result<Trade, Error> {
    let (buy, buy_number) = standing(buyer, buy_slot, SIDE_BUY, terms.last_begun)?;
    let (sell, sell_number) = standing(seller, sell_slot, SIDE_SELL, terms.last_begun)?;
    if buyer.zone != seller.zone {
        return Err(Error::NotMatchable);
    }
    // The fee is at most 5 000 basis points, limits are below 2²³.
    let ask = (sell.limit.0 as u64 * BASIS_POINTS).div_ceil(BASIS_POINTS - terms.fee_bp as u64) as u32;
    let bid = buy.limit.0.checked_sub(terms.wheeling.0).ok_or(Error::NotMatchable)?;
    if bid < ask {
        return Err(Error::NotMatchable);
    }
    let price = PriceUthb(if sell_number < buy_number { ask } else { bid });
    let all_in = price.checked_add(terms.wheeling).ok_or(Error::SumOverflow)?;

    let (held, cash) = (seller.available().0, buyer.available().1);
    let mut energy = buy.energy_wh.min(sell.energy_wh);
    energy = energy.min(u32::try_from(held.0).unwrap_or(u32::MAX));
    if all_in.value_ceil(energy) > cash {
        // Below the cost of 2³² Wh at 2²⁴ µTHB/kWh, so a thousand times as much fits.
        energy = (cash.0 * 1_000 / all_in.0 as u64) as u32;
    }
    if energy == 0 {
        return Err(Error::NotMatchable);
    }
    let (cost, value) = (all_in.value_ceil(energy), price.value_floor(energy));
    let fee = value.basis_points_floor(terms.fee_bp);
    let proceeds = value - fee;
    let within = cost <= buy.limit.value_floor(energy) && proceeds >= sell.limit.value_ceil(energy);
    if !within {
        return Err(Error::OutsideLimits);
    }
    Ok(Trade {
        energy: Wh(energy as u64),
        price,
        cost,
        fee,
        wheeling: cost - value,
        proceeds,
    })
}

/// Books a trade in both accounts and in the market's totals, so that every law still closes; returns the debt it repaid.
/// Errors: `InsufficientGrid`, `InsufficientThbc`, `BalanceOverflow`.
pub fn book(
    market: &mut Market,
    (buyer, buy_slot): (&mut Trader, u8),
    (seller, sell_slot): (&mut Trader, u8),
    trade: &Trade,
) -> Result<MicroThb, Error> {
    use common::state::trading::BALANCE_LIMIT;
    let repaid = seller.debt_uthb.min(trade.proceeds);
    let kept = trade.proceeds - repaid;
    buyer.thbc_uthb = buyer.thbc_uthb.checked_sub(trade.cost).ok_or(Error::InsufficientThbc)?;
    seller.grid_wh = seller
        .grid_wh
        .checked_sub(trade.energy)
        .ok_or(Error::InsufficientGrid)?;
    buyer.grid_wh += trade.energy;
    seller.debt_uthb -= repaid;
    seller.thbc_uthb += kept;
    if buyer.grid_wh.0 >= BALANCE_LIMIT || seller.thbc_uthb.0 >= BALANCE_LIMIT {
        return Err(Error::BalanceOverflow);
    }
    take(buyer, buy_slot, trade.energy);
    take(seller, sell_slot, trade.energy);

    market.traders_thbc_uthb = market.traders_thbc_uthb - trade.cost + kept;
    market.traders_debt_uthb -= i64::try_from(repaid.0).map_err(|_| Error::SumOverflow)?;
    market.supplier_thbc_uthb += repaid;
    market.platform_thbc_uthb += trade.fee;
    market.grid_operator_thbc_uthb += trade.wheeling;
    market.debt_repaid_uthb += repaid;
    market.cost_uthb += trade.cost;
    market.proceeds_uthb += trade.proceeds;
    market.fee_uthb += trade.fee;
    market.zone_wheeling_uthb += trade.wheeling;
    market.matched_wh += trade.energy;
    Ok(repaid)
}

/// Takes what was traded from the order; one that is filled leaves its slot.
fn take(trader: &mut Trader, slot: u8, energy: Wh) {
    let slot = slot as usize;
    let order = &mut trader.slots[slot];
    order.energy_wh -= energy.0 as u32;
    if order.energy_wh == 0 {
        *order = Slot::default();
        trader.placed[slot] = 0;
    }
}

/// Whether a price lies more than 10 % away from any price of the minute before `now`.
pub fn halts(prices: &[PriceSecond], price: PriceUthb, now: u32) -> bool {
    let away = |from: PriceUthb| price.0.abs_diff(from.0) as u64 * 10 > from.0 as u64;
    prices.iter().any(|second| {
        let remembered = second.at != 0 && second.at <= now && now - second.at <= MINUTE;
        remembered && (away(second.low) || away(second.high))
    })
}

/// Remembers a matched price.
pub fn remember(prices: &mut [PriceSecond], price: PriceUthb, now: u32) {
    let second = &mut prices[now as usize % common::state::trading::PRICE_SECONDS];
    if second.at != now {
        (second.at, second.low, second.high) = (now, price, price);
    }
    second.low = second.low.min(price);
    second.high = second.high.max(price);
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::state::trading::{PRICE_SECONDS, SLOTS};

    const TERMS: Terms = Terms {
        fee_bp: 100,
        wheeling: PriceUthb(200_000),
        last_begun: 9,
    };

    fn trader(side: u8, limit: u32, energy_wh: u32, number: u64) -> Trader {
        let mut trader = Trader {
            zone: 1,
            grid_wh: Wh(1_000),
            thbc_uthb: MicroThb(10_000_000),
            ..Trader::default()
        };
        trader.slots[3] = Slot {
            epoch: 10,
            limit: PriceUthb(limit),
            energy_wh,
            side,
            used: SLOT_PLACED,
            _pad: 0,
        };
        trader.placed[3] = number;
        trader
    }

    #[test]
    fn the_resting_order_s_net_limit_is_the_price() {
        let (buyer, seller) = (
            trader(SIDE_BUY, 4_000_000, 500, 2),
            trader(SIDE_SELL, 3_000_000, 800, 1),
        );
        let expected = Trade {
            energy: Wh(500),
            price: PriceUthb(3_030_304),
            cost: MicroThb(1_615_152),
            fee: MicroThb(15_151),
            wheeling: MicroThb(100_000),
            proceeds: MicroThb(1_500_001),
        };
        assert_eq!(trade(&buyer, 3, &seller, 3, &TERMS), Ok(expected));
        let earlier = trader(SIDE_BUY, 4_000_000, 500, 0);
        let found = trade(&earlier, 3, &seller, 3, &TERMS).unwrap();
        assert_eq!((found.price, found.cost), (PriceUthb(3_800_000), MicroThb(2_000_000)));
        assert_eq!(found.fee + found.proceeds + found.wheeling, found.cost);
    }

    #[test]
    fn orders_that_do_not_cross_after_charges_are_not_matched() {
        let seller = trader(SIDE_SELL, 3_000_000, 800, 1);
        // 3.03 net of the fee and 0.20 of wheeling: 3.23 is the first bid that pays both sides' charges.
        assert_eq!(
            trade(&trader(SIDE_BUY, 3_230_000, 1, 2), 3, &seller, 3, &TERMS),
            Err(Error::NotMatchable)
        );
        assert!(trade(&trader(SIDE_BUY, 3_240_000, 1, 2), 3, &seller, 3, &TERMS).is_ok());
        let mut far = trader(SIDE_BUY, 8_000_000, 1, 2);
        far.zone = 2;
        assert_eq!(trade(&far, 3, &seller, 3, &TERMS), Err(Error::NotMatchable));
        let begun = Terms {
            last_begun: 10,
            ..TERMS
        };
        let buyer = trader(SIDE_BUY, 8_000_000, 1, 2);
        assert_eq!(trade(&buyer, 3, &seller, 3, &begun), Err(Error::NoSuchOrder));
        assert_eq!(trade(&buyer, 2, &seller, 3, &TERMS), Err(Error::NoSuchOrder));
        assert_eq!(trade(&buyer, 8, &seller, 3, &TERMS), Err(Error::NoSuchOrder));
        assert_eq!(trade(&seller, 3, &buyer, 3, &TERMS), Err(Error::NoSuchOrder));
    }

    #[test]
    fn no_more_is_traded_than_is_held_and_not_asked_back() {
        let mut seller = trader(SIDE_SELL, 3_000_000, 800, 1);
        let mut buyer = trader(SIDE_BUY, 4_000_000, 900, 2);
        seller.pending_grid_wh = Wh(700);
        assert_eq!(trade(&buyer, 3, &seller, 3, &TERMS).unwrap().energy, Wh(300));
        buyer.pending_uthb = MicroThb(9_996_000);
        // 4 000 µTHB buy 1 Wh at 3 231 µTHB, not 2.
        let found = trade(&buyer, 3, &seller, 3, &TERMS).unwrap();
        assert_eq!((found.energy, found.cost), (Wh(1), MicroThb(3_231)));
    }

    #[test]
    fn a_price_more_than_a_tenth_away_from_any_of_the_minute_before_halts() {
        let mut prices = [PriceSecond::default(); PRICE_SECONDS];
        assert!(!halts(&prices, PriceUthb(8_000_000), 1_000));
        remember(&mut prices, PriceUthb(3_000_000), 1_000);
        remember(&mut prices, PriceUthb(3_200_000), 1_000);
        assert!(!halts(&prices, PriceUthb(3_300_000), 1_060));
        assert!(halts(&prices, PriceUthb(3_300_001), 1_060));
        assert!(!halts(&prices, PriceUthb(2_880_000), 1_060));
        assert!(halts(&prices, PriceUthb(2_879_999), 1_060));
        assert!(!halts(&prices, PriceUthb(8_000_000), 1_061));
        remember(&mut prices, PriceUthb(5_000_000), 1_064);
        assert!(!halts(&prices, PriceUthb(5_100_000), 1_064));
    }

    #[test]
    fn limits_hold_exactly_for_every_amount_and_nothing_is_lost() {
        for energy in 1..=700 {
            for (ask, bid, wheeling, fee_bp) in [
                (2_000_000, 8_000_000, 0, 0),
                (2_010_000, 2_340_000, 310_001, 7),
                (3_330_000, 3_990_000, 199_999, 333),
                (2_000_000, 7_770_000, 1_000_000, 5_000),
            ] {
                for first in [1, 3] {
                    let buyer = trader(SIDE_BUY, bid, energy, 2);
                    let seller = trader(SIDE_SELL, ask, energy, first);
                    let terms = Terms {
                        fee_bp,
                        wheeling: PriceUthb(wheeling),
                        last_begun: 9,
                    };
                    let Ok(found) = trade(&buyer, 3, &seller, 3, &terms) else {
                        assert!(bid - wheeling < (ask as u64 * 10_000).div_ceil(10_000 - fee_bp as u64) as u32);
                        continue;
                    };
                    assert_eq!(found.cost, found.proceeds + found.fee + found.wheeling);
                    assert!(found.cost.0 * 1_000 <= bid as u64 * found.energy.0);
                    assert!(found.proceeds.0 * 1_000 >= ask as u64 * found.energy.0);
                }
            }
        }
    }

    #[test]
    fn a_filled_order_leaves_its_slot_and_proceeds_pay_debt_first() {
        let (mut buyer, mut seller) = (
            trader(SIDE_BUY, 4_000_000, 500, 2),
            trader(SIDE_SELL, 3_000_000, 800, 1),
        );
        seller.debt_uthb = MicroThb(1_000_000);
        let mut market = Market {
            traders_thbc_uthb: MicroThb(20_000_000),
            traders_debt_uthb: 1_000_000,
            ..Market::default()
        };
        let found = trade(&buyer, 3, &seller, 3, &TERMS).unwrap();
        assert_eq!(
            book(&mut market, (&mut buyer, 3), (&mut seller, 3), &found),
            Ok(MicroThb(1_000_000))
        );
        assert_eq!((buyer.slots, buyer.placed), ([Slot::default(); SLOTS], [0; SLOTS]));
        assert_eq!((seller.slots[3].energy_wh, seller.placed[3]), (300, 1));
        assert_eq!((buyer.grid_wh, seller.grid_wh), (Wh(1_500), Wh(500)));
        let held = buyer.thbc_uthb + seller.thbc_uthb;
        assert_eq!(market.traders_thbc_uthb, held);
        let own = market.supplier_thbc_uthb + market.platform_thbc_uthb + market.grid_operator_thbc_uthb;
        assert_eq!(held + own, MicroThb(20_000_000));
        assert_eq!(
            (market.traders_debt_uthb, market.supplier_thbc_uthb),
            (0, MicroThb(1_000_000))
        );
    }
}
