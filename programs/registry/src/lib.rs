//! The registry program: who takes part, which meters there are, and what each has produced and consumed.
//!
//! Here: users, meters, and booking attested metering; each write keeps minted − deficit = production − consumption, per meter
//! and in total, and a meter's epochs follow one another, so minting twice is impossible by construction.
//! Not here: trades and money (trading), mint authority (energy-token). The accounts live in `common::state::registry`.
#![cfg_attr(any(target_os = "solana", target_arch = "bpf"), no_std)]

pub mod entries;
pub mod events;
pub mod instructions;
pub mod settling;

common::entrypoint!();

common::instructions! {
    /// Books an attested batch of an epoch's metering (run 0), once the epoch before can't be voided any more: it is settled, or metered in part. Entry: production u32 ‖ consumption u32.
    settle_meters(index: "u16", n: "u8", depth: "u8", rest: "tail")
        [governance: "", attestation: "", metered: "w", registry: "w", energy_token_program: "", token_config: "",
         mint_authority: "", grid_mint: "w", grid_vault: "w", token_program: "", market: "", metered_before: ""]
        remaining "n meters, writable";
    /// Books an attested batch of late entries. Entry: last_epoch u32 ‖ production u32 ‖ consumption u32 ‖ surplus u32.
    settle_late_meters(index: "u16", n: "u8", depth: "u8", rest: "tail")
        [governance: "", attestation: "", metered: "w", registry: "w", energy_token_program: "", token_config: "",
         mint_authority: "", grid_mint: "w", grid_vault: "w", token_program: ""] remaining "n meters, writable";
    /// Books an attested batch of a resettlement. Entry: x i32, added to minted and to deficit.
    correct_meters(index: "u16", n: "u8", depth: "u8", rest: "tail")
        [governance: "", attestation: "", metered: "w", registry: "w", energy_token_program: "", token_config: "",
         mint_authority: "", grid_mint: "w", grid_vault: "w", token_program: ""] remaining "n meters, writable";
    /// Opens the booking of an epoch; anyone may, and pays for it.
    open_metered(epoch: "u32") [payer: "sw", metered: "w", governance: "", system_program: "", market: ""];
    /// Voids a run that no batch of was booked; only the trading program's market can sign for it.
    void_metered(run: "u16") [market: "s", metered: "w"];
    /// Gives the rent of an epoch that trading has closed back to the payer.
    close_metered() [payer: "w", metered: "w", market: ""];
    /// Begins the next run of an epoch once its root is final and the former run is finalised.
    begin_run(kind: "u8", run: "u16") [metered: "w", attestation: "", governance: "", epoch: ""];
    /// Registers the signing wallet as a participant, pending approval.
    register_user(user_type: "u8", zone: "u16") [wallet: "s", payer: "sw", user: "w", system_program: "", governance: ""];
    /// Approves a pending or suspended user.
    approve_user() [authority: "s", user: "w", governance: "", registry: "w"];
    /// Registers a meter of the signing owner, pending approval. One id is one account; only one that was retired before it was ever admitted is registered again.
    register_meter(meter_type: "u8", zone: "u16", rating_w: "u32", device_key: "pubkey", meter_id: "string")
        [owner: "s", payer: "sw", user: "", meter: "w", registry: "", system_program: "", governance: ""];
    /// Admits a pending meter, or a suspended one again, from an epoch that has not begun; nothing before its baseline counts.
    approve_meter(first_epoch: "u32", baseline_production_wh: "u64", baseline_consumption_wh: "u64")
        [authority: "s", meter: "w", registry: "w", governance: "", market: ""];
    /// Suspends or retires a meter from an epoch that has not begun.
    set_meter_status(status: "u8", from_epoch: "u32") [authority: "s", meter: "w", registry: "w", governance: "", market: ""];
    /// Names the key that signs a meter's readings from an epoch that has not begun; signed by owner and authority.
    rotate_device_key(device_key: "pubkey", from_epoch: "u32")
        [owner: "s", authority: "s", meter: "w", registry: "w", governance: "", market: ""];
    /// Suspends or retires a user.
    set_user_status(status: "u8") [authority: "s", user: "w", governance: ""];
    /// Claims production for a certificate; only governance's PDA can sign for it.
    claim_erc(energy_wh: "u64") [governance: "s", meter: "w"];
    /// Gives a claim back; only governance's PDA can sign for it.
    release_erc(energy_wh: "u64") [governance: "s", meter: "w"];
    /// Creates the singleton; once, by the deployer.
    initialize() [deployer: "sw", registry: "w", governance: "", system_program: ""];
}
