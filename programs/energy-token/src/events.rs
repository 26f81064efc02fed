//! Events of the energy-token program. GRID has none of its own: the registry's and the market's say what they mint and burn.

use common::Address;

common::events! {
    /// Both mints exist.
    pub struct TokensInitialized { pub grid_mint: Address, pub thbc_mint: Address, }
    /// A deposit became THBC; the source is its `Deposit` account.
    pub struct ThbcIssued { pub ref_hash: [u8; 32], pub amount: u64, pub destination: Address, }
    /// THBC was burned for a payment; the source is its `Redemption` account, as of the two that follow.
    pub struct RedemptionRequested { pub owner: Address, pub reference: [u8; 32], pub amount: u64, }
    /// The bridge will pay, or has.
    pub struct RedemptionConfirmed { pub amount: u64, }
    /// The owner took the THBC back.
    pub struct RedemptionReclaimed { pub amount: u64, pub destination: Address, }
}
