//! Medians of fresh reports, and the reference price from them: pure, no accounts.
//!
//! Not here: who may report (update_price). The medians are taken for each figure by itself: while most of the fresh reports are
//! honest, each lies between two honest ones, whatever the others say.

use common::state::{
    governance::{Params, PRICE_LIMIT},
    price::Report,
};

/// A report counts for half an hour: two epochs.
pub const STALE_SECONDS: i64 = 1_800;
/// Demand and supply stay below 2⁴³ Wh (8.8 TWh in a zone), so that the reference price needs 64 bits only.
pub const ENERGY_LIMIT: u64 = 1 << 43;
/// P_base, µTHB/kWh, and α in basis points (domain §5).
pub const BASE: u64 = 3_000_000;
pub const ALPHA_BP: u64 = 2_500;
/// P_base × α; exact, so the formula is rounded once.
const STEP: u64 = BASE * ALPHA_BP / 10_000;
const _: () = assert!(STEP * 10_000 == BASE * ALPHA_BP && STEP < 1 << 20);

/// What the fresh reports say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prices {
    pub price: u32,
    pub demand_wh: u64,
    pub supply_wh: u64,
    pub epoch: u32,
    /// Of the oldest report that counts.
    pub updated_at: i64,
    pub fresh: u8,
}

/// Whether a report's figures can be taken.
pub fn acceptable(price: u32, demand_wh: u64, supply_wh: u64) -> bool {
    price > 0 && price < PRICE_LIMIT && demand_wh < ENERGY_LIMIT && supply_wh < ENERGY_LIMIT
}

/// The medians of the reports not older than the bound; nothing if fewer than `threshold` are.
pub fn medians(reports: &[Report], now: i64, threshold: u8) -> Option<Prices> {
    let mut fresh = [&Report::NONE; 16];
    let mut count = 0;
    for report in reports.iter().take(16) {
        // `price` is above 0 in every report ever taken.
        if report.price > 0 && now - report.updated_at <= STALE_SECONDS {
            fresh[count] = report;
            count += 1;
        }
    }
    let fresh = &fresh[..count];
    if count == 0 || count < threshold as usize {
        return None;
    }
    Some(Prices {
        price: median(fresh, |report| report.price as u64) as u32,
        demand_wh: median(fresh, |report| report.demand_wh),
        supply_wh: median(fresh, |report| report.supply_wh),
        epoch: median(fresh, |report| report.epoch as u64) as u32,
        updated_at: fresh.iter().map(|report| report.updated_at).min().unwrap_or(0),
        fresh: count as u8,
    })
}

/// The middle value; of an even count the mean of the two in the middle, rounded down. All values are below 2⁴³.
fn median(reports: &[&Report], of: impl Fn(&Report) -> u64) -> u64 {
    let mut values = [0u64; 16];
    for (i, report) in reports.iter().enumerate() {
        let value = of(report);
        let mut at = i;
        while at > 0 && values[at - 1] > value {
            values[at] = values[at - 1];
            at -= 1;
        }
        values[at] = value;
    }
    let n = reports.len();
    (values[(n - 1) / 2] + values[n / 2]) / 2
}

/// P_base × (1 + α × demand / supply), rounded down and clamped to the band; no supply: the cap.
pub fn reference(demand_wh: u64, supply_wh: u64, params: &Params) -> u32 {
    if supply_wh == 0 {
        return params.price_max;
    }
    let price = BASE + STEP * demand_wh / supply_wh;
    price.clamp(params.price_min as u64, params.price_max as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000_000;

    fn report(price: u32, demand_wh: u64, supply_wh: u64, age: i64) -> Report {
        Report {
            updated_at: NOW - age,
            demand_wh,
            supply_wh,
            price,
            epoch: 7,
        }
    }

    fn params() -> Params {
        Params {
            effective_epoch: 0,
            fee_bp: 0,
            vat_bp: 0,
            wheeling_cap: 0,
            tariff_on_peak: 0,
            tariff_off_peak: 0,
            feed_in: 0,
            price_min: 2_000_000,
            price_max: 8_000_000,
            halt_bound_bp: 0,
            schedule_version: 0,
        }
    }

    #[test]
    fn the_medians_of_an_odd_and_an_even_count() {
        let reports = [report(5, 10, 100, 0), report(1, 30, 300, 10), report(9, 20, 200, 5)];
        let expected = Prices {
            price: 5,
            demand_wh: 20,
            supply_wh: 200,
            epoch: 7,
            updated_at: NOW - 10,
            fresh: 3,
        };
        assert_eq!(medians(&reports, NOW, 2), Some(expected));
        let two = medians(&reports[..2], NOW, 2).unwrap();
        assert_eq!((two.price, two.demand_wh, two.supply_wh, two.fresh), (3, 20, 200, 2));
    }

    #[test]
    fn a_report_counts_for_half_an_hour_and_fewer_than_k_say_nothing() {
        let reports = [
            report(5, 1, 1, STALE_SECONDS),
            report(7, 1, 1, STALE_SECONDS + 1),
            Report::NONE,
        ];
        assert_eq!(medians(&reports, NOW, 1).unwrap().price, 5);
        assert_eq!(medians(&reports, NOW, 2), None);
        assert_eq!(medians(&[], NOW, 0), None);
    }

    #[test]
    fn one_of_three_oracles_cannot_move_a_median_beyond_the_others() {
        for lie in [1, 50, PRICE_LIMIT - 1] {
            let reports = [
                report(40, 1, 1, 0),
                report(60, 1, 1, 0),
                report(lie, 0, ENERGY_LIMIT - 1, 0),
            ];
            let found = medians(&reports, NOW, 2).unwrap();
            assert!((40..=60).contains(&found.price));
            assert_eq!((found.demand_wh, found.supply_wh), (1, 1));
        }
    }

    #[test]
    fn the_reference_price_follows_the_formula_inside_the_band() {
        assert_eq!(reference(0, 1, &params()), 3_000_000);
        assert_eq!(reference(1, 1, &params()), 3_750_000);
        assert_eq!(reference(1, 3, &params()), 3_250_000);
        assert_eq!(reference(2, 7, &params()), 3_214_285);
        assert_eq!(reference(100, 1, &params()), 8_000_000);
        assert_eq!(reference(5, 0, &params()), 8_000_000);
        assert_eq!(reference(ENERGY_LIMIT - 1, 1, &params()), 8_000_000);
    }
}
