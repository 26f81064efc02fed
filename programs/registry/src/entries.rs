//! What an entry does to its meter: pure functions on the account's fields, no accounts, no CPI.
//!
//! Not here: that the entry is attested (settling), the totals' booking. Entries are little-endian and packed.

use common::{quantities::Wh, require, state::Meter, Error, ProgramError};

/// Sums over a batch. 64 entries of u32 each can't overflow 64 bits, so `+` needs no thought here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub production_wh: u64,
    pub consumption_wh: u64,
    /// Added to minted; minted as tokens too.
    pub minted_wh: u64,
    /// Added to deficit.
    pub deficit_wh: u64,
    /// Taken off minted and off deficit.
    pub x_negative_wh: u64,
    /// The most that a resettlement's meters can have moved.
    pub shift_bound_wh: u64,
}

/// Entry of `settle_meters`: production u32 ‖ consumption u32 of the epoch.
pub const METERING_ENTRY: usize = 8;
/// Entry of `settle_late_meters`: last_epoch u32 ‖ production u32 ‖ consumption u32 ‖ surplus u32.
pub const LATE_ENTRY: usize = 16;
/// Entry of `correct_meters`: x i32.
pub const CORRECTION_ENTRY: usize = 4;

#[inline(always)]
fn word(entry: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
}

/// Books one epoch of a meter: it must be the one after its last, and it must be admitted and not suspended in it.
#[inline(always)]
pub fn metering(
    meter: &mut Meter,
    entry: &[u8; METERING_ENTRY],
    epoch: u32,
    sums: &mut Sums,
) -> Result<(), ProgramError> {
    let (production, consumption) = (word(entry, 0), word(entry, 4));
    // A pending meter has inactive_from 0, so it is refused here as well.
    require!(epoch < meter.inactive_from, Error::MeterNotActive);
    require!(epoch == meter.next_epoch(), Error::MeterOutOfOrder);
    require!(
        meter.within_rating(production, 1) && meter.within_rating(consumption, 1),
        Error::AboveRating
    );
    // max(net, 0) and max(−net, 0)
    let surplus = production.saturating_sub(consumption);
    let deficit = consumption.saturating_sub(production);
    add(meter, production, consumption, surplus, deficit, sums)?;
    meter.last_epoch = epoch;
    Ok(())
}

/// Books all epochs of a missing meter from its last one up to `last_epoch`, which is not after the booking epoch.
#[inline(always)]
pub fn late(
    meter: &mut Meter,
    entry: &[u8; LATE_ENTRY],
    booking_epoch: u32,
    sums: &mut Sums,
) -> Result<(), ProgramError> {
    let (last, production) = (word(entry, 0), word(entry, 4));
    let (consumption, surplus) = (word(entry, 8), word(entry, 12));
    require!(last < meter.inactive_from, Error::MeterNotActive);
    require!(last <= booking_epoch, Error::MeterOutOfOrder);
    let epochs = last
        .checked_sub(meter.next_epoch())
        .and_then(|more| u16::try_from(more).ok()?.checked_add(1))
        .ok_or(Error::MeterOutOfOrder)?;
    require!(
        meter.within_rating(production, epochs) && meter.within_rating(consumption, epochs),
        Error::AboveRating
    );
    // Σ max(net, 0) lies between max(Σ net, 0) and Σ production; then Σ deficit = surplus − Σ net lies within consumption.
    require!(surplus <= production, Error::InvalidSurplus);
    let deficit = (surplus as u64 + consumption as u64)
        .checked_sub(production as u64)
        .ok_or(Error::InvalidSurplus)?;
    // ≤ consumption, since surplus ≤ production
    add(meter, production, consumption, surplus, deficit as u32, sums)?;
    meter.last_epoch = last;
    Ok(())
}

/// Books a correction between `epoch − 1` and `epoch`, both settled: x goes to minted and to deficit alike, so the invariant
/// stands; what was produced and consumed in sum does not change. Nothing orders a meter's corrections as epochs are ordered,
/// so the run is remembered: two entries would double the bound.
#[inline(always)]
pub fn correction(
    meter: &mut Meter,
    entry: &[u8; CORRECTION_ENTRY],
    epoch: u32,
    run: u16,
    sums: &mut Sums,
) -> Result<(), ProgramError> {
    let x = word(entry, 0) as i32;
    require!(
        (meter.corrected_epoch, meter.corrected_run) != (epoch, run),
        Error::CorrectedTwice
    );
    meter.corrected_epoch = epoch;
    meter.corrected_run = run;
    let size = x.unsigned_abs();
    require!(
        meter.first_epoch < epoch && epoch <= meter.last_epoch,
        Error::MeterOutOfOrder
    );
    let bound = meter.shift_bound();
    require!(size as u64 <= bound, Error::AboveRating);
    sums.shift_bound_wh += bound;
    let shift = Wh(size as u64);
    if x >= 0 {
        meter.minted_wh += shift;
        meter.deficit_wh += shift;
        sums.minted_wh += shift.0;
        sums.deficit_wh += shift.0;
    } else {
        let lower = |amount: Wh| amount.checked_sub(shift).ok_or(Error::CorrectionBelowZero);
        meter.minted_wh = lower(meter.minted_wh)?;
        meter.deficit_wh = lower(meter.deficit_wh)?;
        sums.x_negative_wh += shift.0;
    }
    require!(meter.invariant_holds(), Error::InvariantBroken);
    Ok(())
}

#[inline(always)]
fn add(
    meter: &mut Meter,
    production: u32,
    consumption: u32,
    surplus: u32,
    deficit: u32,
    sums: &mut Sums,
) -> Result<(), ProgramError> {
    meter.production_wh += Wh(production as u64);
    meter.consumption_wh += Wh(consumption as u64);
    meter.minted_wh += Wh(surplus as u64);
    meter.deficit_wh += Wh(deficit as u64);
    require!(meter.invariant_holds(), Error::InvariantBroken);
    sums.production_wh += production as u64;
    sums.consumption_wh += consumption as u64;
    sums.minted_wh += surplus as u64;
    sums.deficit_wh += deficit as u64;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4 kW, so 1 174 Wh an epoch at most, and 1 100 at a corrected boundary; admitted from epoch 100.
    fn meter() -> Meter {
        // SAFETY: Meter is Pod, all zeros is a value.
        let mut meter: Meter = unsafe { core::mem::zeroed() };
        meter.rating_w = 4_000;
        meter.first_epoch = 100;
        meter.inactive_from = u32::MAX;
        meter
    }

    fn pair(production: u32, consumption: u32) -> [u8; 8] {
        let mut entry = [0; 8];
        entry[..4].copy_from_slice(&production.to_le_bytes());
        entry[4..].copy_from_slice(&consumption.to_le_bytes());
        entry
    }

    fn late_entry(words: [u32; 4]) -> [u8; 16] {
        let mut entry = [0; 16];
        for (slot, word) in entry.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *slot = word.to_le_bytes();
        }
        entry
    }

    fn energies(meter: &Meter) -> (u32, [u64; 4]) {
        let sums = [
            meter.production_wh,
            meter.consumption_wh,
            meter.minted_wh,
            meter.deficit_wh,
        ];
        (meter.last_epoch, sums.map(|wh| wh.0))
    }

    #[test]
    fn an_epoch_mints_its_surplus_and_the_next_books_its_deficit() {
        let (mut meter, mut sums) = (meter(), Sums::default());
        metering(&mut meter, &pair(700, 200), 100, &mut sums).unwrap();
        assert_eq!(energies(&meter), (100, [700, 200, 500, 0]));
        metering(&mut meter, &pair(0, 300), 101, &mut sums).unwrap();
        assert_eq!(energies(&meter), (101, [700, 500, 500, 300]));
        let expected = Sums {
            production_wh: 700,
            consumption_wh: 500,
            minted_wh: 500,
            deficit_wh: 300,
            ..Sums::default()
        };
        assert_eq!(sums, expected);
    }

    #[test]
    fn an_epoch_twice_or_skipped_or_before_the_first_is_refused() {
        let (mut meter, mut sums) = (meter(), Sums::default());
        let refused = Err(Error::MeterOutOfOrder.into());
        assert_eq!(metering(&mut meter, &pair(1, 0), 99, &mut sums), refused);
        metering(&mut meter, &pair(1, 0), 100, &mut sums).unwrap();
        assert_eq!(metering(&mut meter, &pair(1, 0), 100, &mut sums), refused);
        assert_eq!(metering(&mut meter, &pair(1, 0), 102, &mut sums), refused);
    }

    #[test]
    fn a_pending_or_suspended_meter_does_not_settle() {
        let (mut meter, mut sums) = (meter(), Sums::default());
        meter.inactive_from = 100;
        assert_eq!(
            metering(&mut meter, &pair(1, 0), 100, &mut sums),
            Err(Error::MeterNotActive.into())
        );
        meter.inactive_from = 101;
        assert_eq!(metering(&mut meter, &pair(1, 0), 100, &mut sums), Ok(()));
    }

    #[test]
    fn more_than_a_tenth_above_the_rating_for_sixteen_minutes_is_refused_on_either_side() {
        let (mut meter, mut sums) = (meter(), Sums::default());
        assert_eq!(
            metering(&mut meter, &pair(1_175, 0), 100, &mut sums),
            Err(Error::AboveRating.into())
        );
        assert_eq!(
            metering(&mut meter, &pair(0, 1_175), 100, &mut sums),
            Err(Error::AboveRating.into())
        );
        assert_eq!(metering(&mut meter, &pair(1_174, 1_174), 100, &mut sums), Ok(()));
    }

    #[test]
    fn a_late_entry_books_all_missing_epochs_at_once() {
        let (mut meter, mut sums) = (meter(), Sums::default());
        late(&mut meter, &late_entry([103, 900, 1_000, 400]), 105, &mut sums).unwrap();
        assert_eq!(energies(&meter), (103, [900, 1_000, 400, 500]));
        assert_eq!((sums.minted_wh, sums.deficit_wh), (400, 500));
    }

    #[test]
    fn a_late_entry_keeps_its_bounds() {
        let (mut meter, mut sums) = (meter(), Sums::default());
        let mut error = |words| late(&mut meter, &late_entry(words), 105, &mut sums).unwrap_err();
        assert_eq!(error([106, 0, 0, 0]), Error::MeterOutOfOrder.into());
        assert_eq!(error([99, 0, 0, 0]), Error::MeterOutOfOrder.into());
        assert_eq!(error([101, 2_275, 0, 2_275]), Error::AboveRating.into());
        assert_eq!(error([101, 500, 200, 299]), Error::InvalidSurplus.into());
        assert_eq!(error([101, 500, 200, 501]), Error::InvalidSurplus.into());
    }

    #[test]
    fn a_correction_moves_minted_and_deficit_together() {
        let (mut meter, mut sums) = (meter(), Sums::default());
        metering(&mut meter, &pair(700, 0), 100, &mut sums).unwrap();
        metering(&mut meter, &pair(0, 300), 101, &mut sums).unwrap();
        sums = Sums::default();
        correction(&mut meter, &50i32.to_le_bytes(), 101, 1, &mut sums).unwrap();
        assert_eq!(energies(&meter), (101, [700, 300, 750, 350]));
        let twice = correction(&mut meter, &1i32.to_le_bytes(), 101, 1, &mut sums);
        assert_eq!(twice, Err(Error::CorrectedTwice.into()));
        correction(&mut meter, &(-350i32).to_le_bytes(), 101, 2, &mut sums).unwrap();
        assert_eq!(energies(&meter), (101, [700, 300, 400, 0]));
        assert_eq!((sums.minted_wh, sums.deficit_wh, sums.x_negative_wh), (50, 50, 350));
        assert_eq!(sums.shift_bound_wh, 2 * 1_100);
        let below = correction(&mut meter, &(-1i32).to_le_bytes(), 101, 3, &mut sums);
        assert_eq!(below, Err(Error::CorrectionBelowZero.into()));
    }

    #[test]
    fn a_correction_of_an_unsettled_epoch_or_above_the_rating_is_refused() {
        let (mut meter, mut sums) = (meter(), Sums::default());
        metering(&mut meter, &pair(700, 0), 100, &mut sums).unwrap();
        let mut error = |x: i32, epoch| correction(&mut meter, &x.to_le_bytes(), epoch, 1, &mut sums).unwrap_err();
        assert_eq!(error(1, 101), Error::MeterOutOfOrder.into());
        assert_eq!(error(1, 100), Error::MeterOutOfOrder.into());
        metering(&mut meter, &pair(0, 0), 101, &mut sums).unwrap();
        let mut error = |x: i32, run| correction(&mut meter, &x.to_le_bytes(), 101, run, &mut sums).unwrap_err();
        assert_eq!(error(1_101, 2), Error::AboveRating.into());
        assert_eq!(error(i32::MIN, 3), Error::AboveRating.into());
    }

    #[test]
    fn a_meter_whose_sums_do_not_close_books_nothing_more() {
        let (mut meter, mut sums) = (meter(), Sums::default());
        meter.minted_wh = Wh(1);
        assert_eq!(
            metering(&mut meter, &pair(5, 5), 100, &mut sums),
            Err(Error::InvariantBroken.into())
        );
    }
}
