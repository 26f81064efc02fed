#![cfg_attr(any(target_os = "solana", target_arch = "bpf"), no_std)]
pub mod calendar;
pub mod closing;
pub mod header;
pub mod mandates;
pub mod orders;
pub mod settlement;
