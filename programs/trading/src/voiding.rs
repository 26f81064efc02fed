//! Voiding a run that nothing of was applied: it counts as finalised, empty (chain.md §4). Pure.

use common::{
    quantities::{MicroThb, Wh},
    state::trading::{
        Epoch, Market, RunSums, ZonePrice, BITMAP_BYTES, FLAG_VOID, STATUS_COMMITTED, STATUS_FINALISED, ZONES,
    },
    Error,
};

/// Ends the epoch's present run, empty, and returns the seq it used: its own if it is committed, else none, 0. A committed run whose
/// turn has passed (another one was booked with its seq, after a void) uses none either: it could never be finalised.
///
/// Errors: `NotVoidable` once a batch is applied; `SeqOutOfOrder` unless every run booked before it is finalised or voided: one
/// that is half applied must never lose its turn.
pub fn void(market: &mut Market, epoch: &mut Epoch) -> Result<u64, Error> {
    let mut seq = 0;
    if epoch.status == STATUS_COMMITTED {
        if epoch.applied != 0 {
            return Err(Error::NotVoidable);
        }
        if epoch.seq > market.finalized_seq {
            if market.finalized_seq + 1 != epoch.seq {
                return Err(Error::SeqOutOfOrder);
            }
            seq = epoch.seq;
            market.finalized_seq = seq;
        }
    }
    epoch.status = STATUS_FINALISED;
    epoch.flags = FLAG_VOID;
    (epoch.registry_batches, epoch.trading_batches, epoch.orders) = (0, 0, 0);
    (epoch.lost_wh, epoch.link_wheeling_uthb, epoch.rent_uthb) = (Wh::ZERO, MicroThb::ZERO, 0);
    epoch.zones = [ZonePrice::default(); ZONES];
    epoch.applied = 0;
    epoch.bitmap = [0; BITMAP_BYTES];
    epoch.sums = RunSums::default();
    Ok(seq)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(seq: u64) -> Epoch {
        Epoch {
            status: STATUS_COMMITTED,
            seq,
            trading_batches: 3,
            ..Epoch::default()
        }
    }

    #[test]
    fn a_committed_run_uses_its_seq_and_an_open_one_none() {
        let mut market = Market {
            finalized_seq: 7,
            ..Market::default()
        };
        let mut epoch = committed(8);
        assert_eq!(void(&mut market, &mut epoch), Ok(8));
        assert_eq!(
            (market.finalized_seq, epoch.status, epoch.flags),
            (8, STATUS_FINALISED, FLAG_VOID)
        );
        assert_eq!(void(&mut market, &mut Epoch::default()), Ok(0));
        assert_eq!(market.finalized_seq, 8);
    }

    #[test]
    fn a_committed_run_whose_turn_has_passed_is_voided_without_one() {
        let mut market = Market {
            finalized_seq: 7,
            ..Market::default()
        };
        let mut stale = committed(7);
        assert_eq!(void(&mut market, &mut stale), Ok(0));
        assert_eq!((market.finalized_seq, stale.status), (7, STATUS_FINALISED));
    }

    #[test]
    fn a_run_that_has_begun_to_apply_or_is_not_next_is_never_voided() {
        let mut market = Market::default();
        let mut half = committed(1);
        half.applied = 1;
        assert_eq!(void(&mut market, &mut half), Err(Error::NotVoidable));
        assert_eq!(void(&mut market, &mut committed(2)), Err(Error::SeqOutOfOrder));
    }
}
