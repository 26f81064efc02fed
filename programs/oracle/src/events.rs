//! Events of the oracle program. The source is the account that counts: the attestation, or the price feed.

use common::Address;

common::events! {
    /// An oracle voted; `replaced` is 1 where it had voted for another root before.
    pub struct RootAttested {
        pub kind: u8, pub epoch: u32, pub run: u16, pub oracle: Address, pub root: [u8; 32], pub replaced: u8, pub is_final: u8,
    }
    /// An oracle reported on a zone.
    pub struct PriceReported {
        pub zone: u16, pub epoch: u32, pub oracle: Address, pub price: u32, pub demand_wh: u64, pub supply_wh: u64,
    }
}
