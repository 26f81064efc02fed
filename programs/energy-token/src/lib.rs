#![cfg_attr(any(target_os = "solana", target_arch = "bpf"), no_std)]
