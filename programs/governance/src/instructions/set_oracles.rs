//! `set_oracles`: discriminator ‖ threshold u8 ‖ oracles vec<pubkey>. Accounts: authority s, governance w.

use common::{accounts::Accounts, args::Args, ids, state::Governance, ProgramResult};

use super::{next_event, read_oracles};
use crate::events::OraclesSet;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let authority = accounts.signer()?;
    let mut governance = accounts.singleton_mut::<Governance>(&ids::GOVERNANCE)?;
    authority.require_is(&governance.authority)?;

    let (threshold, oracles, count) = read_oracles(&mut args)?;
    args.end()?;
    governance.oracle_threshold = threshold;
    governance.oracles = oracles;
    governance.oracle_count = count;
    governance.oracle_set_version += 1;
    let seq = next_event(&mut governance);
    OraclesSet {
        version: governance.oracle_set_version,
        threshold,
        count,
    }
    .emit(&ids::GOVERNANCE.address, seq);
    Ok(())
}
