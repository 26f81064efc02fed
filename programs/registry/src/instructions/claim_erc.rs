//! `claim_erc`: discriminator ‖ energy_wh u64. Accounts: governance s (PDA), meter w.
//! The claims on a meter never exceed its production, so one kWh backs at most one certificate. Only the governance program's
//! PDA signs, inside `issue_erc`.

use common::{accounts::Accounts, args::Args, ids, quantities::Wh, require, state::Meter, Error, ProgramResult};

/// Certificates are over whole kWh.
const WH_PER_KWH: u64 = 1_000;
/// `meter_type` of a meter that only draws from the grid.
const GRID_METER: u8 = 1;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    accounts.signed_by(&ids::GOVERNANCE.address)?;
    let mut meter = accounts.state_mut::<Meter>()?;
    let energy = args.u64()?;
    args.end()?;
    require!(meter.meter_type != GRID_METER, Error::NotRenewable);
    require!(energy > 0 && energy.is_multiple_of(WH_PER_KWH), Error::NotWholeKwh);
    let unclaimed = meter.production_wh.saturating_sub(meter.claimed_erc_wh);
    require!(energy <= unclaimed.0, Error::ProductionClaimed);
    meter.claimed_erc_wh += Wh(energy);
    Ok(())
}
