//! `release_erc`: discriminator ‖ energy_wh u64. Accounts: governance s (PDA), meter w.
//! Only the governance program's PDA signs, inside `revoke_erc`.

use common::{accounts::Accounts, args::Args, ids, quantities::Wh, state::Meter, Error, ProgramResult};

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    accounts.signed_by(&ids::GOVERNANCE.address)?;
    let mut meter = accounts.state_mut::<Meter>()?;
    let energy = Wh(args.u64()?);
    args.end()?;
    meter.claimed_erc_wh = meter.claimed_erc_wh.checked_sub(energy).ok_or(Error::ClaimBelowZero)?;
    Ok(())
}
