//! Addresses compiled into the programs: program ids, the deployer, singletons with their bumps.
//!
//! This is the localnet's file; a real network is built with its own. Ids are computed; bumps and the deployer's public key are
//! found outside (tests/chain/test_programs_governance.py derives every one of them anew).

use pinocchio::Address;
use sha2_const_stable::Sha256;

const fn localnet_id(name: &str) -> Address {
    Address::new_from_array(
        Sha256::new()
            .update(b"gridtokenx/localnet/program/")
            .update(name.as_bytes())
            .finalize(),
    )
}

/// Networks as signed bytes, leaves and accounts name them.
pub const NETWORK_MAINNET: u64 = 1;
pub const NETWORK_DEVNET: u64 = 2;
pub const NETWORK_LOCALNET: u64 = 3;
/// The network this file is for: `initialize` refuses any other.
pub const NETWORK: u64 = NETWORK_LOCALNET;

pub const GOVERNANCE_ID: Address = localnet_id("governance");
pub const REGISTRY_ID: Address = localnet_id("registry");
pub const ENERGY_TOKEN_ID: Address = localnet_id("energy-token");
pub const TRADING_ID: Address = localnet_id("trading");
pub const ORACLE_ID: Address = localnet_id("oracle");

/// The only key that may call an `initialize*`: Ed25519 of seed sha256("gridtokenx/localnet/deployer").
pub const DEPLOYER: Address = Address::from_str_const("354N1RDzXa8atxYvjyBJLmyYsZUuRqCXTQKrteNpkKLF");

pub const SYSTEM_PROGRAM: Address = Address::new_from_array([0; 32]);
pub const TOKEN_2022: Address = pinocchio_token_2022::ID;
pub const INSTRUCTIONS_SYSVAR: Address = pinocchio::sysvars::instructions::INSTRUCTIONS_ID;
pub const ED25519_PROGRAM: Address = Address::from_str_const("Ed25519SigVerify111111111111111111111111111");

/// A PDA that exists once per program: its address is a constant, so checking it is one comparison.
pub struct Singleton {
    pub seed: &'static [u8],
    pub bump: u8,
    pub program: Address,
    pub address: Address,
}

const fn singleton(seed: &'static [u8], bump: u8, program: Address) -> Singleton {
    Singleton {
        seed,
        bump,
        program,
        address: Address::derive_address_const(&[seed], Some(bump), &program),
    }
}

pub const GOVERNANCE: Singleton = singleton(b"governance", 250, GOVERNANCE_ID);
pub const VALIDATORS: Singleton = singleton(b"validators", 251, GOVERNANCE_ID);
pub const REGISTRY: Singleton = singleton(b"registry", 253, REGISTRY_ID);
pub const TOKEN_CONFIG: Singleton = singleton(b"token_config", 253, ENERGY_TOKEN_ID);
pub const MINT_AUTHORITY: Singleton = singleton(b"mint_authority", 255, ENERGY_TOKEN_ID);
pub const GRID_MINT: Singleton = singleton(b"grid_mint", 253, ENERGY_TOKEN_ID);
pub const THBC_MINT: Singleton = singleton(b"thbc_mint", 255, ENERGY_TOKEN_ID);
pub const MARKET: Singleton = singleton(b"market", 255, TRADING_ID);
pub const GRID_VAULT: Singleton = singleton(b"grid_vault", 254, TRADING_ID);
pub const THBC_VAULT: Singleton = singleton(b"thbc_vault", 255, TRADING_ID);

/// Numbers of the programs in `Governance::paused_until`.
pub const PROGRAM_GOVERNANCE: u8 = 0;
pub const PROGRAM_REGISTRY: u8 = 1;
pub const PROGRAM_ENERGY_TOKEN: u8 = 2;
pub const PROGRAM_TRADING: u8 = 3;
pub const PROGRAM_ORACLE: u8 = 4;
