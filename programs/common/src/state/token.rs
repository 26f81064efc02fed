//! Accounts of the energy-token program: `["token_config"]`, `["deposit", sha256(ref)]`.

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
}
account!(TokenConfig, ids::ENERGY_TOKEN_ID);
account!(Deposit, ids::ENERGY_TOKEN_ID);
