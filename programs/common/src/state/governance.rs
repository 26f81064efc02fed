//! `["governance"]`: who may do what, the rates, and what is paused.

use pinocchio::{
    error::ProgramError,
    sysvars::{clock::Clock, Sysvar},
    Address,
};

use crate::{account, errors::Error, ids, layout, require};

layout! {
    /// Rates and bounds; prices in µTHB/kWh, rates in basis points.
    pub struct Params {
        /// First epoch they act in.
        pub effective_epoch: u32,
        pub fee_bp: u16,
        pub vat_bp: u16,
        pub wheeling_cap: u32,
        pub tariff_on_peak: u32,
        pub tariff_off_peak: u32,
        pub feed_in: u32,
        pub price_min: u32,
        pub price_max: u32,
        pub halt_bound_bp: u16,
        pub schedule_version: u16,
    }

    /// The singleton that every program reads.
    pub struct Governance {
        pub authority: Address,
        pub pending_authority: Address,
        pub guardian: Address,
        pub network: u64,
        /// Unix seconds until which each program is paused; 0: not paused.
        pub paused_until: [i64; 5],
        pub current: Params,
        pub next: Params,
        pub has_next: u8,
        pub oracle_threshold: u8,
        pub oracle_count: u8,
        pub _spare: u8,
        pub oracle_set_version: u32,
        pub oracles: [Address; 16],
        /// The set that acts from `oracles_from` on, as version `oracle_set_version` + 1.
        pub next_oracles: [Address; 16],
        /// Unix seconds; 0: no set waits.
        pub oracles_from: i64,
        pub next_oracle_threshold: u8,
        pub next_oracle_count: u8,
        pub _pad: [u8; 6],
        pub event_seq: u64,
        /// Unix seconds of the guardian's last pause of each program; 0: none.
        pub guardian_paused_at: [i64; 5],
        /// The guardian from `guardian_from` on.
        pub next_guardian: Address,
        /// Unix seconds; 0: no other guardian is announced.
        pub guardian_from: i64,
    }
}
account!(Governance, ids::GOVERNANCE_ID);

impl Governance {
    /// The rates of an epoch: `next` from its effective epoch on, else `current`.
    #[inline(always)]
    pub fn params_at(&self, epoch: u32) -> &Params {
        if self.has_next != 0 && self.next.effective_epoch <= epoch {
            &self.next
        } else {
            &self.current
        }
    }

    /// The rates set last, in force or not yet.
    #[inline(always)]
    pub fn latest(&self) -> &Params {
        if self.has_next != 0 {
            &self.next
        } else {
            &self.current
        }
    }

    /// Whether a change waits for its epoch.
    #[inline(always)]
    pub fn change_pending(&self, last_opened: u32) -> bool {
        self.has_next != 0 && self.next.effective_epoch > last_opened
    }

    /// `Paused` if the program is. The clock is read only where a pause was ever set: it costs more than the rest together.
    #[inline(always)]
    pub fn require_running(&self, program: u8) -> Result<(), ProgramError> {
        let until = self.paused_until[program as usize];
        if until != 0 {
            require!(Clock::get()?.unix_timestamp >= until, Error::Paused);
        }
        Ok(())
    }

    /// `Paused` if a program that settlement needs is paused, or was within the last `seconds`.
    pub fn require_settling_since(&self, seconds: i64) -> Result<(), ProgramError> {
        let until = self.paused_until[ids::PROGRAM_GOVERNANCE as usize + 1..]
            .iter()
            .fold(0, |latest, until| latest.max(*until));
        if until != 0 {
            require!(
                Clock::get()?.unix_timestamp >= until.saturating_add(seconds),
                Error::Paused
            );
        }
        Ok(())
    }

    /// The guardian in force: the announced one from its time on.
    pub fn guardian_now(&self) -> Result<&Address, ProgramError> {
        let replaced = self.guardian_from != 0 && Clock::get()?.unix_timestamp >= self.guardian_from;
        Ok(if replaced { &self.next_guardian } else { &self.guardian })
    }

    /// Whether the waiting oracle set acts already. The clock is read only where one waits.
    #[inline(always)]
    pub fn next_oracles_act(&self) -> Result<bool, ProgramError> {
        Ok(self.oracles_from != 0 && Clock::get()?.unix_timestamp >= self.oracles_from)
    }

    /// The oracle set in force.
    #[inline(always)]
    pub fn oracle_set(&self) -> Result<OracleSet<'_>, ProgramError> {
        let (keys, count, threshold, version) = if self.next_oracles_act()? {
            let version = self.oracle_set_version + 1;
            (
                &self.next_oracles,
                self.next_oracle_count,
                self.next_oracle_threshold,
                version,
            )
        } else {
            (
                &self.oracles,
                self.oracle_count,
                self.oracle_threshold,
                self.oracle_set_version,
            )
        };
        Ok(OracleSet {
            keys: &keys[..(count as usize).min(16)],
            threshold,
            version,
        })
    }
}

/// k of n oracles.
pub struct OracleSet<'a> {
    pub keys: &'a [Address],
    pub threshold: u8,
    pub version: u32,
}

impl OracleSet<'_> {
    /// Position of a key in the set.
    #[inline(always)]
    pub fn index(&self, key: &Address) -> Option<usize> {
        self.keys.iter().position(|oracle| oracle == key)
    }
}

/// Prices stay below 2²³ µTHB/kWh, so that Wh × price fits 64 bits wherever Wh < 2³².
pub const PRICE_LIMIT: u32 = 1 << 23;
/// Orders' limits and the band lie on 0.01 THB.
pub const PRICE_TICK: u32 = 10_000;

impl Params {
    /// Bounds that the settlement arithmetic relies on.
    pub fn check(&self) -> Result<(), ProgramError> {
        let prices = [
            self.wheeling_cap,
            self.tariff_on_peak,
            self.tariff_off_peak,
            self.feed_in,
            self.price_max,
        ];
        require!(
            self.fee_bp <= 5_000
                && self.vat_bp <= 5_000
                && self.halt_bound_bp <= 10_000
                && prices.iter().all(|price| *price < PRICE_LIMIT)
                && self.price_min > 0
                && self.price_min <= self.price_max,
            Error::ParameterOutOfBounds
        );
        Ok(())
    }
}
