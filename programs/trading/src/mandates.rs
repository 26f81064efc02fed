//! A trader's mandates over time: which one may be replaced when (domain §4, chain §3).
//!
//! `current` acts until `next` begins; `next` acts from its effective epoch on. What has begun is never changed but by an end epoch.

use common::{
    state::trading::{Mandate, Trader},
    Error,
};

/// Stores a mandate that acts from `last_begun + 1`; error `InvalidMandate` if it would end before.
///
/// A `next` that hasn't begun is replaced. One that has becomes `current`, which needs every epoch under the old `current`
/// settled (`MandatePending` otherwise): those epochs still read it.
pub fn set(trader: &mut Trader, mut mandate: Mandate, last_begun: u32, settled_through: u32) -> Result<(), Error> {
    let effective = last_begun.checked_add(1).ok_or(Error::WrongEpoch)?;
    if mandate.end_epoch <= effective {
        return Err(Error::InvalidMandate);
    }
    mandate.effective_epoch = effective;
    mandate.is_set = 1;
    let next = &trader.next;
    if next.is_set != 0 && next.effective_epoch <= last_begun {
        if settled_through.saturating_add(1) < next.effective_epoch {
            return Err(Error::MandatePending);
        }
        trader.current = *next;
    }
    trader.next = mandate;
    Ok(())
}

/// Ends whatever acts at `last_begun + 1` and returns that epoch; a mandate that hasn't begun is dropped. Error `NoMandate` where nothing is set.
pub fn revoke(trader: &mut Trader, last_begun: u32) -> Result<u32, Error> {
    let end = last_begun.checked_add(1).ok_or(Error::WrongEpoch)?;
    if trader.current.is_set == 0 && trader.next.is_set == 0 {
        return Err(Error::NoMandate);
    }
    trader.current.end_epoch = trader.current.end_epoch.min(end);
    if trader.next.is_set != 0 && trader.next.effective_epoch > last_begun {
        trader.next = Mandate::NONE;
    } else {
        trader.next.end_epoch = trader.next.end_epoch.min(end);
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settlement::initial::mandate_of;
    use common::quantities::PriceUthb;

    fn trader() -> Trader {
        Trader {
            zone: 1,
            current: Mandate::NONE,
            next: Mandate::NONE,
            ..Trader::default()
        }
    }

    fn buys_at(limit: u32) -> Mandate {
        Mandate {
            buy_max: PriceUthb(limit),
            max_wh: 1,
            end_epoch: u32::MAX,
            ..Mandate::NONE
        }
    }

    fn limit_in(trader: &Trader, epoch: u32) -> Option<u32> {
        mandate_of(trader, epoch).map(|mandate| mandate.buy_max.0)
    }

    #[test]
    fn a_mandate_acts_from_the_next_epoch_that_has_not_begun_until_the_one_after_it_does() {
        let mut t = trader();
        set(&mut t, buys_at(1), 10, 9).unwrap();
        assert_eq!(
            (limit_in(&t, 10), limit_in(&t, 11), limit_in(&t, 99)),
            (None, Some(1), Some(1))
        );
        set(&mut t, buys_at(2), 10, 9).unwrap();
        assert_eq!((limit_in(&t, 10), limit_in(&t, 11)), (None, Some(2)));
        set(&mut t, buys_at(3), 14, 12).unwrap();
        assert_eq!(
            (limit_in(&t, 11), limit_in(&t, 14), limit_in(&t, 15)),
            (Some(2), Some(2), Some(3))
        );
    }

    #[test]
    fn a_third_mandate_waits_until_the_epochs_under_the_first_are_settled() {
        let mut t = trader();
        set(&mut t, buys_at(1), 10, 9).unwrap();
        set(&mut t, buys_at(2), 12, 10).unwrap();
        assert_eq!(set(&mut t, buys_at(3), 14, 11), Err(Error::MandatePending));
        set(&mut t, buys_at(3), 14, 12).unwrap();
        assert_eq!(
            (limit_in(&t, 13), limit_in(&t, 14), limit_in(&t, 15)),
            (Some(2), Some(2), Some(3))
        );
    }

    #[test]
    fn a_revocation_leaves_the_epochs_that_have_begun_untouched() {
        let mut t = trader();
        assert_eq!(revoke(&mut t, 10), Err(Error::NoMandate));
        set(&mut t, buys_at(1), 10, 9).unwrap();
        set(&mut t, buys_at(2), 12, 10).unwrap();
        revoke(&mut t, 14).unwrap();
        assert_eq!(
            (limit_in(&t, 12), limit_in(&t, 14), limit_in(&t, 15)),
            (Some(1), Some(2), None)
        );
        let mut t = trader();
        set(&mut t, buys_at(1), 10, 9).unwrap();
        set(&mut t, buys_at(2), 12, 10).unwrap();
        revoke(&mut t, 12).unwrap();
        assert_eq!((limit_in(&t, 12), limit_in(&t, 13)), (Some(1), None));
        set(&mut t, buys_at(3), 12, 10).unwrap();
        assert_eq!((limit_in(&t, 12), limit_in(&t, 13)), (Some(1), Some(3)));
    }

    #[test]
    fn a_mandate_that_would_never_act_is_refused() {
        let expired = Mandate {
            end_epoch: 11,
            ..buys_at(1)
        };
        assert_eq!(set(&mut trader(), expired, 10, 9), Err(Error::InvalidMandate));
    }
}
