//! `set_oracles`: discriminator ‖ threshold u8 ‖ oracles vec<pubkey>. Accounts: authority s, governance w.
//! Oracles say what is minted and for whom, which the authority may not: so a set acts a day after it was announced. Until then
//! it can be replaced (the day begins anew), and the guardian can pause whom it would harm.

use common::{accounts::Accounts, args::Args, ids, state::Governance, ProgramResult};
use pinocchio::sysvars::{clock::Clock, Sysvar};

use super::{next_event, read_oracles};
use crate::events::OraclesSet;

/// Notice before a new oracle set acts.
pub const ORACLES_DELAY_SECONDS: i64 = 86_400;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let mut governance = accounts.singleton_mut::<Governance>(&ids::GOVERNANCE)?;
    authority.require_is(&governance.authority)?;
    governance.require_running(ids::PROGRAM_GOVERNANCE)?;

    let (threshold, oracles, count) = read_oracles(&mut args)?;
    args.end()?;
    if governance.next_oracles_act()? {
        governance.oracles = governance.next_oracles;
        governance.oracle_threshold = governance.next_oracle_threshold;
        governance.oracle_count = governance.next_oracle_count;
        governance.oracle_set_version += 1;
    }
    governance.next_oracles = oracles;
    governance.next_oracle_threshold = threshold;
    governance.next_oracle_count = count;
    governance.oracles_from = Clock::get()?.unix_timestamp + ORACLES_DELAY_SECONDS;
    let seq = next_event(&mut governance);
    OraclesSet {
        version: governance.oracle_set_version + 1,
        threshold,
        count,
        from: governance.oracles_from,
    }
    .emit(&ids::GOVERNANCE.address, seq);
    Ok(())
}
