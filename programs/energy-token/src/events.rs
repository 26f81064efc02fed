//! Events of the energy-token program. GRID has none of its own: the registry's and the market's say what they mint and burn.

use common::Address;

common::events! {
    /// Both mints exist.
    pub struct TokensInitialized { pub grid_mint: Address, pub thbc_mint: Address, }
    /// A deposit became THBC; the source is its `Deposit` account.
    pub struct ThbcIssued { pub ref_hash: [u8; 32], pub amount: u64, pub destination: Address, }
}
