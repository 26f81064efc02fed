//! The trading program: households' balances, mandates and orders, and the settlement of epochs (chain.md §3).
//!
//! Here: `["market"]`, the vaults, `["trader", wallet]`, `["epoch", number]`. All money is computed here, from net and traded Wh
//! that an attested root commits to. Not here: metering and minting (registry), tokens (energy-token), who attests (oracle).
//! The accounts live in `common::state::trading`, since the registry and governance read them. `settlement`, `closing`, `continuous`, `header`,
//! `orders`, `mandates` and `calendar` are pure; `instructions` is one file an instruction.
#![cfg_attr(any(target_os = "solana", target_arch = "bpf"), no_std)]

pub mod calendar;
pub mod closing;
pub mod continuous;
pub mod events;
pub mod header;
pub mod instructions;
pub mod mandates;
pub mod orders;
pub mod settlement;
pub mod voiding;

common::entrypoint!();

// The batches come first: the dispatcher compares in this order.
common::instructions! {
    /// Settles run 0 for up to 50 traders; entry: net_wh i32 ‖ traded_wh i32 (bought +, sold −).
    settle_batch(index: "u16", n: "u8", depth: "u8", rest: "tail")
        [governance: "", market: "", epoch: "w", attestation: ""] remaining "n × trader w";
    /// Books late entries; entry: surplus u32 ‖ deficit on-peak u32 ‖ deficit off-peak u32.
    settle_late_batch(index: "u16", n: "u8", depth: "u8", rest: "tail")
        [governance: "", market: "", epoch: "w", attestation: ""] remaining "n × trader w";
    /// Books corrections; entry: minted_and_burned u32 ‖ refund u32 (bit 31: the deficit epoch is the prior one) ‖ taken_back u32 ‖ returned u32 ‖ billed u32.
    resettle_batch(index: "u16", n: "u8", depth: "u8", rest: "tail")
        [governance: "", market: "", epoch: "w", attestation: "", prior_epoch: ""] remaining "n × trader w";
    /// Settles run 0 where each order has its own value; entry: net_wh i32 ‖ n u8 ‖ n × (slot u32 ‖ Wh u32 ‖ value u64), ascending by slot: the limit that names it, bit 30: sells, bit 31: by mandate.
    settle_pay_as_bid_batch(index: "u16", n: "u8", depth: "u8", rest: "tail")
        [governance: "", market: "", epoch: "w", attestation: ""] remaining "n × trader w";
    /// Records a filled, signed order; the Ed25519 instruction that proves it is the one right before. rest: the leaf's proof.
    record_order(index: "u16", depth: "u8", rest: "tail")
        [trader: "w", epoch: "", market: "", attestation: "", governance: "", instructions_sysvar: ""];
    /// Starts run 0 with its header; metering must be complete. rest: proof ‖ header.
    commit_clearing(depth: "u8", rest: "tail") [market: "w", epoch: "w", attestation: "", metered: "", governance: ""];
    /// Starts a late or resettlement run with its header; metering must be complete. rest: proof ‖ header.
    commit_run(kind: "u8", run: "u16", depth: "u8", rest: "tail")
        [market: "w", epoch: "w", attestation: "", metered: "", governance: ""];
    /// Ends the present run: every batch applied, every law closed, the deficit burned from the vault.
    finalize_epoch()
        [market: "w", epoch: "w", metered: "", governance: "", energy_token_program: "", token_config: "", grid_mint: "w", grid_vault: "w", token_program: ""];
    /// Opens the epoch after the last opened one and copies the rates in force; simulated time needs the authority.
    open_epoch(epoch: "u32") [payer: "sw", authority: "s", market: "w", epoch: "w", governance: "", system_program: ""];
    /// Voids a stuck epoch, metering and clearing together, if no batch of either was applied. rest: proof ‖ header, or nothing.
    void_epoch(depth: "u8", rest: "tail")
        [authority: "s", market: "w", epoch: "w", metered: "w", attestation: "", governance: "", registry_program: ""];
    /// Voids a late or resettlement run that no batch of was applied. rest: proof ‖ header, or nothing.
    void_run(kind: "u8", run: "u16", depth: "u8", rest: "tail")
        [authority: "s", market: "w", epoch: "w", metered: "w", attestation: "", governance: "", registry_program: ""];
    /// Closes the next epoch for good once the 15 days after it are settled, and gives its rent back to the payer.
    close_epoch() [payer: "w", market: "w", epoch: "w", metered: "", next_epoch: ""];
    /// Puts THBC into the trader's balance, debt first.
    deposit(amount: "u64")
        [wallet: "s", trader: "w", market: "w", source: "w", thbc_vault: "w", thbc_mint: "", token_program: "", governance: ""];
    /// Puts GRID that was withdrawn before back into the trader's balance.
    deposit_grid(amount: "u64")
        [wallet: "s", trader: "w", market: "w", source: "w", grid_vault: "w", grid_mint: "", token_program: "", governance: ""];
    /// Asks for THBC and GRID: they leave cover from the next epoch that has not begun. One request at a time.
    request_withdrawal(thbc: "u64", grid: "u64") [wallet: "s", trader: "w", market: "", governance: ""];
    /// Pays the requested withdrawal, as far as it is still there, once every epoch begun at the request is settled or voided.
    withdraw()
        [wallet: "s", trader: "w", market: "w", thbc_vault: "w", grid_vault: "w", thbc_destination: "w", grid_destination: "w",
         thbc_mint: "", grid_mint: "", token_program: "", governance: ""];
    /// Places an order on chain for an epoch that has not begun; two slots stay free. side: 0 buy, 1 sell.
    create_order(epoch: "u32", side: "u8", limit: "u32", energy_wh: "u32")
        [wallet: "s", trader: "w", market: "w", governance: ""];
    /// Takes an order on chain back, until its epoch begins.
    cancel_order(slot: "u8") [wallet: "s", trader: "w", market: "", governance: ""];
    /// Trades two orders on chain at the resting one's price, by anyone; a price that breaks the bound halts the market instead.
    match_order(buy_slot: "u8", sell_slot: "u8") [buyer: "w", seller: "w", market: "w", governance: ""];
    /// Continuous matching instead of auctions (1) or back (0), from the next epoch that has not begun.
    set_continuous(on: "u8", wheeling: "u32") [authority: "s", market: "w", governance: ""];
    /// Ends a halt of continuous trading and clears its history of prices.
    resume_market() [authority: "s", market: "w", governance: ""];
    /// Stores a mandate that acts from the next epoch that has not begun; price 0: does not sell or buy by mandate.
    set_mandate(sell_min: "u32", buy_max: "u32", max_wh: "u32", expiry_epoch: "u32", buy_back: "u8")
        [wallet: "s", trader: "w", market: "", governance: ""];
    /// Ends the mandate from the next epoch that has not begun.
    revoke_mandate() [wallet: "s", trader: "w", market: "", governance: ""];
    /// Opens the account of an active user of the registry; anyone may.
    open_trader() [payer: "sw", trader: "w", user: "", market: "w", system_program: "", governance: ""];
    /// Puts THBC into a market account: 0 supplier, 1 platform, 2 grid operator.
    fund_account(account: "u8", amount: "u64")
        [funder: "s", market: "w", source: "w", thbc_vault: "w", thbc_mint: "", token_program: "", governance: ""];
    /// Creates the market and its vaults; once, by the deployer. time_mode 0: the chain's clock, 1: simulated (refused on mainnet).
    initialize_market(time_mode: "u8")
        [deployer: "sw", market: "w", grid_vault: "w", thbc_vault: "w", grid_mint: "", thbc_mint: "", governance: "", token_program: "", system_program: ""];
}
