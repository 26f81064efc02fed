//! The oracle program: k of n oracles attest one root per kind, epoch and run, and report prices, demand and supply.
//!
//! Here: votes on roots; medians of reports, and the reference price from them. Not here: what a root's leaves do (registry,
//! trading), the oracle set (governance). The accounts live in `common::state`, since other programs read them.
#![cfg_attr(any(target_os = "solana", target_arch = "bpf"), no_std)]

pub mod events;
pub mod instructions;
pub mod prices;
pub mod tally;

common::entrypoint!();

common::instructions! {
    /// Votes for a root, or replaces the oracle's vote; the root is final once k votes are equal.
    attest(kind: "u8", epoch: "u32", run: "u16", root: "[u8;32]")
        [oracle: "s", payer: "sw", governance: "", attestation: "w", system_program: "", market: ""];
    /// Gives the rent of a root of an epoch that trading has closed back to the payer.
    close_attestation() [payer: "w", attestation: "w", market: ""];
    /// Reports a zone's price (µTHB/kWh), demand and supply; each oracle's last report counts for half an hour.
    update_price(epoch: "u32", zone: "u16", price: "u32", demand_wh: "u64", supply_wh: "u64")
        [oracle: "s", payer: "sw", governance: "", market: "", feed: "w", system_program: ""];
    /// Returns the medians of the fresh reports, at least k, and the reference price.
    get_price() [feed: "", governance: ""];
}
