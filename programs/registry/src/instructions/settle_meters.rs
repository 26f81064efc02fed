//! `settle_meters`: discriminator ‖ index u16 ‖ n u8 ‖ depth u8 ‖ proof 32·depth ‖ n × (production u32 ‖ consumption u32).
//! Accounts: governance, attestation, metered w, registry w, energy_token_program, token_config, mint_authority, grid_mint w,
//! grid_vault w, token_program, market, metered_before, then n × meter w. Each meter must be at the epoch after its last.

use common::{accounts::Accounts, args::Args, state::Kind, ProgramResult};

use crate::{entries, settling::settle};

pub fn process(accounts: Accounts, args: Args) -> ProgramResult {
    settle::<{ entries::METERING_ENTRY }>(accounts, args, Kind::Metering, |meter, entry, run, sums| {
        entries::metering(meter, entry, run.epoch, sums)
    })
}
