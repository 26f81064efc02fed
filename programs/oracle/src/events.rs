//! Events of the oracle program; their source is the attestation, which counts them.

use common::Address;

common::events! {
    /// An oracle voted; `replaced` is 1 where it had voted for another root before.
    pub struct RootAttested {
        pub kind: u8, pub epoch: u32, pub run: u16, pub oracle: Address, pub root: [u8; 32], pub replaced: u8, pub is_final: u8,
    }
}
