//! The energy-token program: the only holder of the mint authority of GRID (1 unit = 1 Wh) and THBC (1 unit = 1 µTHB).
//!
//! Here: creating the mints, minting and burning GRID for the registry's and the trading program's PDAs, issuing THBC against
//! attested deposits and redeeming it. Not here: who is owed what (registry, trading).
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
    /// Burns THBC for a payment outside the chain; the record stays, once per owner and reference.
    request_redemption(reference: "[u8;32]", amount: "u64")
        [owner: "s", payer: "sw", token_config: "", thbc_mint: "w", source: "w", redemption: "w", token_program: "",
         system_program: "", governance: ""];
    /// Confirms a requested redemption, signed by at least k bridge attestors, before they pay.
    confirm_redemption() [redemption: "w", token_config: "", governance: ""] remaining "bridge attestors, signers";
    /// Gives the owner back what the bridge has not confirmed in 24 h.
    reclaim_redemption()
        [owner: "s", redemption: "w", token_config: "", mint_authority: "", thbc_mint: "w", destination: "w", token_program: "",
         governance: ""];
    /// Creates both mints and the configuration; once, by the deployer.
    initialize(bridge_threshold: "u8", bridge: "vec<pubkey>")
        [deployer: "sw", token_config: "w", mint_authority: "", grid_mint: "w", thbc_mint: "w", token_program: "",
         system_program: ""];
}
