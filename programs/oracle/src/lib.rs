//! The oracle program: k of n oracles attest one root per kind, epoch and run.
//!
//! Here: votes on roots. Not here: what a root's leaves do (registry, trading), the oracle set (governance), price feeds
//! (a later deepening). The account lives in `common::state::oracle`, since registry and trading read it.
#![cfg_attr(any(target_os = "solana", target_arch = "bpf"), no_std)]

pub mod events;
pub mod instructions;
pub mod tally;

common::entrypoint!();

common::instructions! {
    /// Votes for a root, or replaces the oracle's vote; the root is final once k votes are equal.
    attest(kind: "u8", epoch: "u32", run: "u16", root: "[u8;32]")
        [oracle: "s", payer: "sw", governance: "", attestation: "w", system_program: ""];
}
