//! The end of a run: the laws of domain §6 over its sums, then its totals enter the market. Pure.

use common::{
    state::{
        trading::{Epoch, Market},
        Metered,
    },
    Error,
};

fn signed(value: u64) -> Result<i64, Error> {
    i64::try_from(value).map_err(|_| Error::SumOverflow)
}

fn sum(terms: &[i64]) -> Result<i64, Error> {
    terms
        .iter()
        .try_fold(0i64, |total, term| total.checked_add(*term))
        .ok_or(Error::SumOverflow)
}

/// Adds a signed change to a total that may never be negative; `error` if it would be.
fn shift(total: &mut u64, change: i64, error: Error) -> Result<(), Error> {
    *total = total.checked_add_signed(change).ok_or(error)?;
    Ok(())
}

fn law(left: i64, right: i64, error: Error) -> Result<(), Error> {
    if left == right {
        Ok(())
    } else {
        Err(error)
    }
}

/// The most that rounding can take from link wheeling and rent: an optimum earns both. Prices are rounded by less than 1 µTHB/kWh a hop
/// (ten hops), charges by less than 2 µTHB an entry (64 a batch), energy by less than 1 Wh a link, worth less than 2²³ / 1 000 µTHB (two
/// links a zone). Without this bound oracles could pay a household out of the grid operator's account with prices that no optimum has.
fn rounding(epoch: &Epoch) -> Result<i64, Error> {
    let zones = epoch.zones.iter().filter(|zone| zone.price.0 != 0).count() as i64;
    sum(&[
        signed(epoch.sums.bought_wh.0)? / 100,
        epoch.trading_batches as i64 * 128,
        zones * 2 * 8_389,
    ])
}

/// Closes a run and returns the Wh to burn from the vault. Errors: `GridNotConserved` … `MoneyNotConserved` (numbers of domain §6),
/// `CreditAboveMinted`, `ReversalNotClosed`, `ShiftAboveRating`, `SupplierNotCovered`, `RentBelowRounding`, `GridOperatorNotCovered`, `SumOverflow`.
pub fn close(market: &mut Market, epoch: &Epoch, metered: &Metered, correction: bool) -> Result<u64, Error> {
    let sums = &epoch.sums;
    let (residual, refund_wh) = (signed(sums.residual_wh.0)?, signed(sums.refund_wh.0)?);
    let (cost, proceeds, fee) = (
        signed(sums.cost_uthb.0)?,
        signed(sums.proceeds_uthb.0)?,
        signed(sums.fee_uthb.0)?,
    );
    let (wheeling, link_wheeling, rent) = (
        signed(sums.zone_wheeling_uthb.0)?,
        signed(epoch.link_wheeling_uthb.0)?,
        epoch.rent_uthb,
    );
    let (billed, returned, refund) = (
        signed(sums.billed_uthb.0)?,
        signed(sums.returned_uthb.0)?,
        signed(sums.refund_uthb.0)?,
    );
    let (paid, repaid, buy_back) = (
        signed(sums.paid_uthb.0)?,
        signed(sums.debt_repaid_uthb.0)?,
        signed(sums.buy_back_uthb.0)?,
    );
    let incurred = signed(sums.debt_incurred_uthb.0)?;
    let (bought_back_wh, returned_wh) = (signed(sums.bought_back_wh.0)?, signed(sums.returned_wh.0)?);
    let (taken_back_wh, tokens_wh) = (signed(sums.taken_back_wh.0)?, signed(metered.minted_tokens_wh.0)?);
    let traded = sum(&[signed(sums.bought_wh.0)?, -signed(sums.sold_wh.0)?])?;
    let lost = signed(epoch.lost_wh.0)?;

    // What the run does to the totals of metering: a correction's x is added to minted and deficit alike.
    let (minted, deficit, reversed) = if correction {
        law(
            signed(sums.minted_and_burned_wh.0)?,
            tokens_wh,
            Error::ReversalNotClosed,
        )?;
        let x_negative = signed(metered.x_negative_wh.0)?;
        let reversed = sum(&[x_negative, -taken_back_wh, -returned_wh])?;
        if reversed < 0 {
            return Err(Error::ReversalNotClosed);
        }
        // What is refunded is |x| in all its parts: taken back, returned, or billed again (domain §7). The chain sees the last part here
        // only, so here is its bound.
        let moved = sum(&[taken_back_wh, returned_wh, residual])?.max(x_negative);
        if sum(&[tokens_wh, moved])? > signed(metered.shift_bound_wh.0)? {
            return Err(Error::ShiftAboveRating);
        }
        let x = sum(&[tokens_wh, -x_negative])?;
        (x, x, reversed)
    } else {
        let (minted, deficit) = (signed(metered.minted_wh.0)?, signed(metered.deficit_wh.0)?);
        law(sums.net_wh, sum(&[minted, -deficit])?, Error::NetNotClosed)?;
        law(minted, tokens_wh, Error::GridNotConserved)?;
        // Netting within wallets only lowers both sides. Without this bound the GRID that one wallet holds could be burned
        // for a deficit that no meter had, and credited to another.
        if signed(sums.credited_wh.0)? > minted {
            return Err(Error::CreditAboveMinted);
        }
        (minted, deficit, 0)
    };
    law(traded, -lost, Error::TradesNotClosed)?;
    let residual_change = sum(&[residual, -refund_wh])?;
    let burned = sum(&[deficit, -residual_change, lost])?;
    // Mints and burns that only cancel each other out move no token.
    let burned_tokens = sum(&[burned, tokens_wh, -minted])?;
    let to_burn = u64::try_from(burned_tokens).map_err(|_| Error::BurnNotClosed)?;
    let supplier_grid = sum(&[bought_back_wh, -returned_wh])?;
    // What entries did to the balances; a correction's net is 0 and its residual change is no GRID but money.
    let grid = if correction {
        -taken_back_wh
    } else {
        sum(&[sums.net_wh, traded, residual, -bought_back_wh])?
    };
    law(
        sum(&[grid, supplier_grid])?,
        sum(&[tokens_wh, -burned_tokens])?,
        Error::GridNotConserved,
    )?;
    law(
        cost,
        sum(&[proceeds, fee, wheeling, link_wheeling, rent])?,
        Error::ChargesNotClosed,
    )?;
    law(
        sum(&[billed, returned])?,
        sum(&[paid, incurred])?,
        Error::BillsNotClosed,
    )?;
    let thbc = sum(&[proceeds, buy_back, refund, -cost, -paid, -repaid])?;
    let supplier = sum(&[paid, repaid, -buy_back, -refund])?;
    if sum(&[link_wheeling, rent])? < -rounding(epoch)? {
        return Err(Error::RentBelowRounding);
    }
    let grid_operator = sum(&[wheeling, link_wheeling, rent])?;
    law(sum(&[thbc, supplier, fee, grid_operator])?, 0, Error::MoneyNotConserved)?;

    shift(&mut market.traders_grid_wh.0, grid, Error::GridNotConserved)?;
    shift(&mut market.supplier_grid_wh.0, supplier_grid, Error::SupplierNotCovered)?;
    shift(&mut market.traders_thbc_uthb.0, thbc, Error::MoneyNotConserved)?;
    shift(&mut market.supplier_thbc_uthb.0, supplier, Error::SupplierNotCovered)?;
    shift(&mut market.platform_thbc_uthb.0, fee, Error::SumOverflow)?;
    shift(
        &mut market.grid_operator_thbc_uthb.0,
        grid_operator,
        Error::GridOperatorNotCovered,
    )?;
    let debt = sum(&[market.traders_debt_uthb, incurred, -repaid])?;
    if debt < 0 {
        return Err(Error::BillsNotClosed);
    }
    market.traders_debt_uthb = debt;
    shift(&mut market.minted_wh.0, minted, Error::GridNotConserved)?;
    shift(&mut market.deficit_wh.0, deficit, Error::BurnNotClosed)?;
    market.burned_wh = sum(&[market.burned_wh, burned])?;
    shift(&mut market.residual_wh.0, residual_change, Error::BurnNotClosed)?;
    shift(&mut market.reversed_wh.0, reversed, Error::SumOverflow)?;
    market.net_wh = sum(&[market.net_wh, minted, -deficit])?;
    market.traded_wh = sum(&[market.traded_wh, traded])?;
    market.rent_uthb = sum(&[market.rent_uthb, rent])?;
    for (total, term) in [
        (&mut market.lost_wh.0, lost),
        (&mut market.tokens_burned_wh.0, burned_tokens),
        (&mut market.cost_uthb.0, cost),
        (&mut market.proceeds_uthb.0, proceeds),
        (&mut market.fee_uthb.0, fee),
        (&mut market.zone_wheeling_uthb.0, wheeling),
        (&mut market.link_wheeling_uthb.0, link_wheeling),
        (&mut market.billed_uthb.0, billed),
        (&mut market.paid_uthb.0, paid),
        (&mut market.debt_repaid_uthb.0, repaid),
        (&mut market.refund_wh.0, refund_wh),
        (&mut market.refund_uthb.0, refund),
        (&mut market.bought_back_wh.0, bought_back_wh),
        (&mut market.buy_back_uthb.0, buy_back),
        (&mut market.returned_wh.0, returned_wh),
        (&mut market.returned_uthb.0, returned),
    ] {
        shift(total, term, Error::SumOverflow)?;
    }
    // The totals close too: tokens minted − burned are what the accounts hold, and everything burned was deficit or lost.
    // What was withdrawn is held outside.
    let held = market.traders_grid_wh + market.supplier_grid_wh;
    law(
        sum(&[
            signed((market.minted_wh + market.deposited_grid_wh).0)?,
            -market.burned_wh,
        ])?,
        signed((held + market.withdrawn_grid_wh).0)?,
        Error::LawBroken,
    )?;
    Ok(to_burn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::quantities::{MicroThb, Wh};

    /// A run that closes: 1 000 Wh minted and 900 deficit, 500 sold and 490 bought over a link that loses 10, 60 Wh residual,
    /// 40 bought back; a market with funds and an earlier debt of 5 µTHB.
    fn closed() -> (Market, Epoch, Metered) {
        let market = Market {
            supplier_thbc_uthb: MicroThb(10_000),
            grid_operator_thbc_uthb: MicroThb(10_000),
            traders_thbc_uthb: MicroThb(1_000),
            traders_debt_uthb: 5,
            ..Market::default()
        };
        let mut epoch = Epoch {
            lost_wh: Wh(10),
            link_wheeling_uthb: MicroThb(7),
            rent_uthb: -20,
            trading_batches: 1,
            ..Epoch::default()
        };
        let sums = &mut epoch.sums;
        (sums.net_wh, sums.credited_wh, sums.drawn_wh) = (100, Wh(1_000), Wh(900));
        (sums.bought_wh, sums.sold_wh) = (Wh(490), Wh(500));
        (sums.cost_uthb, sums.proceeds_uthb, sums.fee_uthb) = (MicroThb(1_500), MicroThb(1_400), MicroThb(14));
        sums.zone_wheeling_uthb = MicroThb(99);
        (sums.residual_wh, sums.billed_uthb) = (Wh(60), MicroThb(240));
        (sums.paid_uthb, sums.debt_incurred_uthb, sums.debt_repaid_uthb) = (MicroThb(200), MicroThb(40), MicroThb(5));
        (sums.bought_back_wh, sums.buy_back_uthb) = (Wh(40), MicroThb(88));
        // SAFETY: every bit pattern of a Pod is valid.
        let mut metered: Metered = unsafe { core::mem::zeroed() };
        (metered.minted_wh, metered.minted_tokens_wh, metered.deficit_wh) = (Wh(1_000), Wh(1_000), Wh(900));
        (market, epoch, metered)
    }

    fn refusal(change: impl Fn(&mut Market, &mut Epoch, &mut Metered)) -> Option<Error> {
        let (mut market, mut epoch, mut metered) = closed();
        change(&mut market, &mut epoch, &mut metered);
        close(&mut market, &epoch, &metered, false).err()
    }

    #[test]
    fn a_run_that_closes_moves_its_sums_into_the_market_and_burns_the_rest() {
        let (mut market, epoch, metered) = closed();
        assert_eq!(close(&mut market, &epoch, &metered, false), Ok(900 - 60 + 10));
        assert_eq!((market.traders_grid_wh, market.supplier_grid_wh), (Wh(110), Wh(40)));
        assert_eq!((market.minted_wh, market.burned_wh), (Wh(1_000), 850));
        assert_eq!(market.traders_thbc_uthb, MicroThb(1_000 + 1_400 + 88 - 1_500 - 200 - 5));
        assert_eq!(market.supplier_thbc_uthb, MicroThb(10_000 + 200 + 5 - 88));
        assert_eq!(market.platform_thbc_uthb, MicroThb(14));
        assert_eq!(market.grid_operator_thbc_uthb, MicroThb(10_000 + 99 + 7 - 20));
        assert_eq!(
            (market.traders_debt_uthb, market.net_wh, market.traded_wh),
            (40, 100, -10)
        );
    }

    #[test]
    fn each_law_that_does_not_close_has_its_own_error() {
        let check = |error, change: fn(&mut Market, &mut Epoch, &mut Metered)| {
            assert_eq!(refusal(change), Some(error));
        };
        check(Error::GridNotConserved, |_, _, metered| {
            metered.minted_tokens_wh = Wh(999)
        });
        check(Error::NetNotClosed, |_, epoch, _| epoch.sums.net_wh = 101);
        check(Error::CreditAboveMinted, |_, epoch, _| {
            epoch.sums.credited_wh = Wh(1_001)
        });
        check(Error::TradesNotClosed, |_, epoch, _| epoch.sums.sold_wh = Wh(501));
        check(Error::TradesNotClosed, |_, epoch, _| epoch.lost_wh = Wh(0));
        check(Error::BurnNotClosed, |_, epoch, _| epoch.sums.residual_wh = Wh(911));
        check(Error::ChargesNotClosed, |_, epoch, _| epoch.rent_uthb = -21);
        check(Error::ChargesNotClosed, |_, epoch, _| {
            epoch.sums.fee_uthb = MicroThb(15)
        });
        check(Error::BillsNotClosed, |_, epoch, _| {
            epoch.sums.billed_uthb = MicroThb(241)
        });
        check(Error::BillsNotClosed, |_, epoch, _| {
            epoch.sums.debt_repaid_uthb = MicroThb(46)
        });
        check(Error::SupplierNotCovered, |market, epoch, _| {
            market.supplier_thbc_uthb = MicroThb(0);
            epoch.sums.buy_back_uthb = MicroThb(206);
        });
        check(Error::GridOperatorNotCovered, |market, epoch, _| {
            market.grid_operator_thbc_uthb = MicroThb(0);
            epoch.rent_uthb = -107;
            epoch.sums.cost_uthb = MicroThb(1_413);
        });
        // 4 for prices, 128 for the batch's charges
        check(Error::RentBelowRounding, |_, epoch, _| {
            epoch.rent_uthb = -140;
            epoch.sums.cost_uthb = MicroThb(1_380);
        });
        check(Error::MoneyNotConserved, |market, _, _| {
            market.traders_thbc_uthb = MicroThb(0)
        });
        check(Error::SumOverflow, |_, epoch, _| {
            epoch.sums.refund_uthb = MicroThb(1 << 63)
        });
        check(Error::LawBroken, |market, _, _| market.minted_wh = Wh(1));
    }
}
