//! `["price", zone]`: what each oracle last reported of a zone's price, demand and supply.
//!
//! Not here: the medians and the reference price (the oracle program).

use pinocchio::Address;

use crate::{account, ids, layout};

layout! {
    /// An oracle's last report; all zeros: none.
    pub struct Report {
        /// Unix seconds of the chain's clock.
        pub updated_at: i64,
        pub demand_wh: u64,
        pub supply_wh: u64,
        /// µTHB/kWh.
        pub price: u32,
        pub epoch: u32,
    }

    /// Reports on a zone, one an oracle, by its place in the oracle set.
    pub struct PriceFeed {
        pub zone: u16,
        pub bump: u8,
        pub _pad: u8,
        /// Oracle set that the reports are of; those of an older set are dropped.
        pub set_version: u32,
        pub payer: Address,
        pub event_seq: u64,
        pub reports: [Report; 16],
    }
}
account!(PriceFeed, ids::ORACLE_ID);

impl Report {
    /// No report.
    pub const NONE: Self = Self {
        updated_at: 0,
        demand_wh: 0,
        supply_wh: 0,
        price: 0,
        epoch: 0,
    };
}
