//! `get_price`: discriminator. Accounts: feed, governance. It changes nothing; anyone may ask, other programs by CPI.
//! Return data, packed: price u32 ‖ reference price u32 ‖ demand_wh u64 ‖ supply_wh u64 ‖ epoch u32 ‖ updated_at i64 ‖ fresh u8.
//! `StalePrice` rather than an old price: a caller can't forget to look at its age.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{price::PriceFeed, Governance},
    Error, ProgramResult,
};
use pinocchio::{
    cpi::set_return_data,
    sysvars::{clock::Clock, Sysvar},
};

use crate::prices::{medians, reference};

/// Bytes of the return data.
const RETURNED: usize = 37;

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let feed = accounts.state::<PriceFeed>()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    args.end()?;
    governance.require_running(ids::PROGRAM_ORACLE)?;
    let set = governance.oracle_set()?;
    require!(feed.set_version == set.version, Error::StalePrice);
    let now = Clock::get()?.unix_timestamp;
    let found = medians(&feed.reports, now, set.threshold).ok_or(Error::StalePrice)?;
    let reference = reference(found.demand_wh, found.supply_wh, governance.params_at(found.epoch));

    let mut out = [0u8; RETURNED];
    out[..4].copy_from_slice(&found.price.to_le_bytes());
    out[4..8].copy_from_slice(&reference.to_le_bytes());
    out[8..16].copy_from_slice(&found.demand_wh.to_le_bytes());
    out[16..24].copy_from_slice(&found.supply_wh.to_le_bytes());
    out[24..28].copy_from_slice(&found.epoch.to_le_bytes());
    out[28..36].copy_from_slice(&found.updated_at.to_le_bytes());
    out[36] = found.fresh;
    set_return_data(&out);
    Ok(())
}
