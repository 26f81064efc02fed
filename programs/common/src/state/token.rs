//! Accounts of the energy-token program: `["token_config"]`, `["deposit", sha256(ref)]`, `["redemption", owner, reference]`.

use pinocchio::Address;

use crate::{account, ids, layout};

layout! {
    /// The mints and the bridge that attests deposits.
    pub struct TokenConfig {
        pub grid_mint: Address,
        pub thbc_mint: Address,
        pub bridge_threshold: u8,
        pub bridge_count: u8,
        pub mint_authority_bump: u8,
        pub _pad: [u8; 5],
        pub bridge: [Address; 8],
    }

    /// Its existence says that a deposit reference is spent.
    pub struct Deposit {
        pub ref_hash: [u8; 32],
        pub amount: u64,
        pub destination: Address,
    }

    /// THBC burned for a payment outside the chain; never closed, so a reference is used once by its owner.
    pub struct Redemption {
        pub owner: Address,
        pub reference: [u8; 32],
        pub amount: u64,
        /// Unix seconds of the chain's clock.
        pub requested_at: i64,
        pub status: u8,
        pub _pad: [u8; 7],
    }
}
account!(TokenConfig, ids::ENERGY_TOKEN_ID);
account!(Deposit, ids::ENERGY_TOKEN_ID);
account!(Redemption, ids::ENERGY_TOKEN_ID);

/// `Redemption::status`: requested → confirmed, or reclaimed.
pub const REDEMPTION_REQUESTED: u8 = 0;
pub const REDEMPTION_CONFIRMED: u8 = 1;
pub const REDEMPTION_RECLAIMED: u8 = 2;
