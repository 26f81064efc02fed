//! Voting rules: what a proposal may change, whose votes count, when it passes. Pure, no accounts.
//!
//! Not here: when the periods begin and end (the instructions).

use common::{
    require,
    state::{governance::PRICE_TICK, proposals::Seat, Params},
    Error, ProgramError,
};

/// How long votes are taken.
pub const VOTING_SECONDS: i64 = 3 * 86_400;
/// From the end of voting to the first moment it can be executed: time to leave, or for the guardian to pause.
pub const TIME_LOCK_SECONDS: i64 = 2 * 86_400;
/// From then on to its lapse, so that no forgotten vote acts years later.
pub const EXECUTION_SECONDS: i64 = 14 * 86_400;

/// The parameters with one of them changed and a new schedule version, checked against their bounds.
///
/// Numbers: 0 fee_bp, 1 vat_bp, 2 wheeling_cap, 3 tariff_on_peak, 4 tariff_off_peak, 5 feed_in, 6 price_min, 7 price_max,
/// 8 halt_bound_bp.
pub fn changed(params: &Params, parameter: u8, value: u64) -> Result<Params, ProgramError> {
    let mut next = *params;
    let short = || u16::try_from(value).map_err(|_| ProgramError::from(Error::ParameterOutOfBounds));
    let long = || u32::try_from(value).map_err(|_| ProgramError::from(Error::ParameterOutOfBounds));
    match parameter {
        0 => next.fee_bp = short()?,
        1 => next.vat_bp = short()?,
        2 => next.wheeling_cap = long()?,
        3 => next.tariff_on_peak = long()?,
        4 => next.tariff_off_peak = long()?,
        5 => next.feed_in = long()?,
        6 => next.price_min = long()?,
        7 => next.price_max = long()?,
        8 => next.halt_bound_bp = short()?,
        _ => return Err(Error::UnknownParameter.into()),
    }
    // Limits lie on the tick, so a band that does not would refuse its own ends.
    let on_tick = !matches!(parameter, 6 | 7) || value.is_multiple_of(PRICE_TICK as u64);
    require!(on_tick, Error::ParameterOutOfBounds);
    next.schedule_version = next
        .schedule_version
        .checked_add(1)
        .ok_or(Error::ParameterOutOfBounds)?;
    next.check()?;
    Ok(next)
}

/// How many of the voters still sit where they voted: who was removed since does not count, nor who took over the seat.
pub fn standing(seats: &[Seat; 32], votes: u32, set_version: u32) -> u32 {
    let mut count = 0;
    for (i, seat) in seats.iter().enumerate() {
        let voted = votes >> i & 1 == 1;
        if voted && seat.key.as_array() != &[0; 32] && seat.since <= set_version {
            count += 1;
        }
    }
    count
}

/// Quorum is two thirds of those who could vote, removed or not; of the votes, yes needs more than half.
pub fn passes(yes: u32, no: u32, eligible: u32) -> bool {
    3 * (yes + no) >= 2 * eligible && yes > no
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::Address;

    const PARAMS: Params = Params {
        effective_epoch: 7,
        fee_bp: 100,
        vat_bp: 700,
        wheeling_cap: 1_000_000,
        tariff_on_peak: 4_100_000,
        tariff_off_peak: 2_580_000,
        feed_in: 2_200_000,
        price_min: 2_000_000,
        price_max: 8_000_000,
        halt_bound_bp: 5_000,
        schedule_version: 1,
    };

    fn seats(of: &[(u8, u32)]) -> [Seat; 32] {
        let seat = |key: u8, since: u32| Seat {
            key: Address::new_from_array([key; 32]),
            since,
            _pad: 0,
        };
        core::array::from_fn(|i| of.get(i).map_or(seat(0, 0), |(key, since)| seat(*key, *since)))
    }

    #[test]
    fn each_number_changes_one_parameter_and_the_schedule_version() {
        let values = [1, 2, 3, 4, 5, 6, 10_000, 7_990_000, 9];
        for (parameter, value) in values.into_iter().enumerate() {
            let next = changed(&PARAMS, parameter as u8, value).unwrap();
            let fields = |p: &Params| {
                [
                    p.fee_bp as u64,
                    p.vat_bp as u64,
                    p.wheeling_cap as u64,
                    p.tariff_on_peak as u64,
                    p.tariff_off_peak as u64,
                    p.feed_in as u64,
                    p.price_min as u64,
                    p.price_max as u64,
                    p.halt_bound_bp as u64,
                ]
            };
            let mut expected = fields(&PARAMS);
            expected[parameter] = value;
            assert_eq!(fields(&next), expected);
            assert_eq!((next.schedule_version, next.effective_epoch), (2, 7));
        }
    }

    #[test]
    fn values_outside_their_bounds_are_refused() {
        let refused = [
            (0, 5_001),
            (0, 65_636),
            (1, 5_001),
            (2, 1 << 23),
            (3, 1 << 32),
            (6, 0),
            (6, 8_010_000),
            (6, 2_000_001),
            (7, 1_990_000),
            (8, 10_001),
        ];
        for (parameter, value) in refused {
            let error = changed(&PARAMS, parameter, value).unwrap_err();
            assert_eq!(error, Error::ParameterOutOfBounds.into(), "{parameter} {value}");
        }
        assert_eq!(changed(&PARAMS, 9, 1).unwrap_err(), Error::UnknownParameter.into());
    }

    #[test]
    fn only_votes_of_those_who_still_sit_and_sat_before_count() {
        let set = seats(&[(1, 1), (0, 0), (3, 5), (4, 2)]);
        // seat 0 sits since before, 1 is free, 2 was taken over after the proposal, 3 did not vote
        assert_eq!(standing(&set, 0b0111, 4), 1);
        assert_eq!(standing(&set, 0b1111, 4), 2);
        assert_eq!(standing(&set, u32::MAX, 5), 3);
    }

    #[test]
    fn quorum_is_two_thirds_and_a_tie_does_not_pass() {
        assert!(passes(2, 0, 3));
        assert!(!passes(1, 0, 3));
        assert!(!passes(1, 1, 3));
        assert!(passes(2, 1, 3));
        assert!(!passes(0, 3, 3));
        assert!(!passes(3, 0, 5));
        assert!(passes(1, 0, 1));
        assert!(!passes(0, 0, 0));
    }
}
