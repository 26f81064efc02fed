//! The tariff calendar of domain §6, the on-chain twin of `gridtokenx_pipelines/epochs.py`.

use common::state::trading::EPOCH_SECONDS;

const BANGKOK_OFFSET_SECONDS: u64 = 7 * 3_600;
const DAY_SECONDS: u64 = 86_400;

/// Whether the on-peak retail tariff applies: weekdays 09:00–22:00 Bangkok time.
pub const fn is_on_peak(epoch: u32) -> bool {
    let local = epoch as u64 * EPOCH_SECONDS + BANGKOK_OFFSET_SECONDS;
    // 1970-01-01 was a Thursday; Monday is 0.
    let weekday = (local / DAY_SECONDS + 3) % 7;
    let hour = local % DAY_SECONDS / 3_600;
    weekday < 5 && 9 <= hour && hour < 22
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Epoch number of a UTC time on 2026-01-27, a Tuesday.
    const fn tuesday(hour: u32, minute: u32) -> u32 {
        1_769_472_000 / 900 + hour * 4 + minute / 15
    }

    #[test]
    fn weekdays_are_on_peak_from_nine_to_ten_at_night_in_bangkok() {
        assert!(!is_on_peak(tuesday(1, 45)));
        assert!(is_on_peak(tuesday(2, 0)));
        assert!(is_on_peak(tuesday(14, 45)));
        assert!(!is_on_peak(tuesday(15, 0)));
    }

    #[test]
    fn a_week_has_five_times_thirteen_hours_on_peak_and_none_at_the_weekend() {
        let week = tuesday(0, 0)..tuesday(0, 0) + 7 * 96;
        assert_eq!(week.filter(|epoch| is_on_peak(*epoch)).count(), 5 * 13 * 4);
        let saturday_noon = tuesday(5, 0) + 4 * 96;
        assert!(!is_on_peak(saturday_noon) && !is_on_peak(saturday_noon + 96) && is_on_peak(saturday_noon + 192));
    }
}
