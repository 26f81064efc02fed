//! The governance program: who may do what, the rates and when they change, and what is paused.
//!
//! Here: the singleton `["governance"]` and its changes. Not here: what the rates mean (settlement), votes and certificates
//! (a later deepening). The accounts live in `common::state::governance`, since every program reads them.
#![cfg_attr(any(target_os = "solana", target_arch = "bpf"), no_std)]

pub mod events;
pub mod instructions;

common::entrypoint!();

common::instructions! {
    /// Creates the singleton; once, by the deployer, who becomes the authority.
    initialize(network: "u64", guardian: "pubkey", threshold: "u8", oracles: "vec<pubkey>", params: "Params")
        [deployer: "sw", governance: "w", system_program: ""];
    /// Sets the next parameters; effective from an epoch that has not begun, and refused while another change is pending.
    set_params(params: "Params") [authority: "s", governance: "w", market: ""];
    /// Announces an oracle set, 2k > n, n ≤ 16, that acts a day later. Votes of the former set then no longer count.
    set_oracles(threshold: "u8", oracles: "vec<pubkey>") [authority: "s", governance: "w"];
    /// Pauses a program for 7 days from now. The guardian may do so once until the authority lifts the pause; the authority renews.
    pause(program: "u8") [guardian_or_authority: "s", governance: "w"];
    /// Lets a pause end one hour from now (the time-lock), or at its own end if that is sooner.
    unpause(program: "u8") [authority: "s", governance: "w"];
    /// First step of a handover; proposing the zero key withdraws it.
    propose_authority(new: "pubkey") [authority: "s", governance: "w"];
    /// Second step: the proposed key takes over.
    accept_authority() [new: "s", governance: "w"];
}
