//! `settle_late_meters`: discriminator ‖ index u16 ‖ n u8 ‖ depth u8 ‖ proof 32·depth ‖
//! n × (last_epoch u32 ‖ production u32 ‖ consumption u32 ‖ surplus u32). Accounts as `settle_meters`.

use common::{accounts::Accounts, args::Args, state::Kind, ProgramResult};

use crate::{entries, settling::settle};

pub fn process(accounts: Accounts, args: Args) -> ProgramResult {
    settle::<{ entries::LATE_ENTRY }>(accounts, args, Kind::Late, |meter, entry, run, sums| {
        entries::late(meter, entry, run.epoch, sums)
    })
}
