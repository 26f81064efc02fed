//! The energy-token program: the only holder of the mint authority of GRID (1 unit = 1 Wh) and THBC (1 unit = 1 µTHB).
//!
//! Here: creating the mints, minting and burning GRID for the registry's and the trading program's PDAs, issuing THBC against
//! attested deposits. Not here: who is owed what (registry, trading), redemption of THBC (a later deepening).
#![cfg_attr(any(target_os = "solana", target_arch = "bpf"), no_std)]

pub mod events;
pub mod instructions;
pub mod metadata;

common::entrypoint!();

common::instructions! {
    /// Mints GRID into the trading vault; only the registry's PDA can sign for it.
    mint_from_production(amount: "u64")
        [registry: "s", token_config: "", mint_authority: "", grid_mint: "w", grid_vault: "w", token_program: ""];
    /// Burns GRID of the trading vault; only the market's PDA, its owner, can sign for it.
    burn(amount: "u64") [market: "s", token_config: "", grid_mint: "w", grid_vault: "w", token_program: ""];
    /// Issues THBC for a deposit, once per reference, signed by at least k bridge attestors.
    issue_thbc(ref_hash: "[u8;32]", amount: "u64")
        [payer: "sw", token_config: "", mint_authority: "", thbc_mint: "w", destination: "w", deposit: "w", token_program: "",
         system_program: "", governance: ""] remaining "bridge attestors, signers";
    /// Creates both mints and the configuration; once, by the deployer.
    initialize(bridge_threshold: "u8", bridge: "vec<pubkey>")
        [deployer: "sw", token_config: "w", mint_authority: "", grid_mint: "w", thbc_mint: "w", token_program: "",
         system_program: ""];
}
