//! The governance program: who may do what, the rates and when they change, and what is paused.
//!
//! Here: the singleton `["governance"]` and its changes, by the authority or by the validators' vote; renewable certificates.
//! Not here: what the rates mean (settlement), what a meter has produced (registry). The accounts live in `common::state`.
#![cfg_attr(any(target_os = "solana", target_arch = "bpf"), no_std)]

pub mod certificates;
pub mod events;
pub mod instructions;
pub mod voting;

common::entrypoint!();

common::instructions! {
    /// Creates the singleton; once, by the deployer, who becomes the authority.
    initialize(network: "u64", guardian: "pubkey", threshold: "u8", oracles: "vec<pubkey>", params: "Params")
        [deployer: "sw", governance: "w", system_program: ""];
    /// Sets the next parameters; effective from an epoch that has not begun, and refused while another change is pending.
    set_params(params: "Params") [authority: "s", governance: "w", market: ""];
    /// Announces an oracle set, 2k > n, n ≤ 16, that acts a day later. Votes of the former set then no longer count.
    set_oracles(threshold: "u8", oracles: "vec<pubkey>") [authority: "s", governance: "w"];
    /// Pauses a program for 7 days from now. The guardian may do so once in 30 days for each program; the authority renews.
    pause(program: "u8") [guardian_or_authority: "s", governance: "w"];
    /// Lets a pause end one hour from now (the time-lock), or at its own end if that is sooner.
    unpause(program: "u8") [authority: "s", governance: "w"];
    /// Announces another guardian, that acts a week later.
    set_guardian(new: "pubkey") [authority: "s", governance: "w"];
    /// First step of a handover; proposing the zero key withdraws it.
    propose_authority(new: "pubkey") [authority: "s", governance: "w"];
    /// Second step: the proposed key takes over.
    accept_authority() [new: "s", governance: "w"];
    /// Gives a key a seat in the validator set. It votes on proposals made from then on.
    admit_validator(validator: "pubkey") [authority: "s", payer: "sw", validators: "w", governance: "", system_program: ""];
    /// Takes a validator's seat; its votes on proposals that are not executed yet no longer count.
    remove_validator(validator: "pubkey") [authority: "s", validators: "w", governance: ""];
    /// Proposes a value for one parameter. Votes are taken for 3 days; after 2 more it can be executed, for 14.
    create_proposal(id: "u64", parameter: "u8", value: "u64")
        [validator: "s", payer: "sw", validators: "w", proposal: "w", governance: "", system_program: ""];
    /// Votes on a proposal (1 yes, 0 no), once for each validator admitted before it was made.
    vote(approve: "u8")
        [validator: "s", payer: "sw", validators: "", proposal: "w", vote: "w", governance: "", system_program: ""];
    /// Makes an accepted value one of the next parameters, from the next epoch that has not begun; anyone may.
    execute_proposal() [proposal: "w", governance: "w", validators: "", market: ""];
    /// Gives the rent of a proposal that is executed or has lapsed back to the payer.
    close_proposal() [payer: "w", proposal: "w"];
    /// Gives the rent of a vote back to the payer, once voting on its proposal is over.
    close_vote() [payer: "w", vote: "w", proposal: ""];
    /// Certifies whole kWh of a renewable meter's production that no certificate claims.
    issue_erc(certificate_id: "[u8;32]", energy_wh: "u64")
        [owner: "s", payer: "sw", meter: "w", certificate: "w", governance: "", registry_program: "", system_program: ""];
    /// Validates an issued certificate for trading.
    validate_erc() [authority: "s", certificate: "w", governance: ""];
    /// Passes a validated certificate on.
    transfer_erc(to: "pubkey") [holder: "s", certificate: "w", governance: ""];
    /// Uses a validated certificate up for a beneficiary.
    retire_erc(beneficiary: "pubkey") [holder: "s", certificate: "w", governance: ""];
    /// Voids a certificate that is not retired or expired, and gives its claim back to the meter.
    revoke_erc() [authority: "s", certificate: "w", meter: "w", governance: "", registry_program: ""];
}
