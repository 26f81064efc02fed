//! `correct_meters`: discriminator ‖ index u16 ‖ n u8 ‖ depth u8 ‖ proof 32·depth ‖ n × x i32. Accounts as `settle_meters`.
//! Positive x is minted into the vault (the trading program burns it again); negative x is only taken off both sums.

use common::{accounts::Accounts, args::Args, state::Kind, ProgramResult};

use crate::{entries, settling::settle};

pub fn process(accounts: Accounts, args: Args) -> ProgramResult {
    settle::<{ entries::CORRECTION_ENTRY }>(accounts, args, Kind::Resettlement, |meter, entry, run, sums| {
        entries::correction(meter, entry, run.epoch, run.run, sums)
    })
}
