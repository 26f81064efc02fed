//! `initialize`: discriminator ‖ network u64 ‖ guardian 32 ‖ threshold u8 ‖ oracles vec<pubkey> ‖ params 36.
//! Accounts: deployer sw, governance w, system_program.
//! A stranger can't be first: the deployer's key is compiled in. Nor can a build for one network initialise another's.

use common::{accounts::Accounts, args::Args, ids, require, state::Governance, Address, Error, ProgramResult};

use super::{next_event, read_oracles, read_params};
use crate::events::GovernanceInitialized;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let deployer = accounts.payer()?;
    deployer.require_is(&ids::DEPLOYER)?;
    let vacant = accounts.vacant()?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;

    let network = args.u64()?;
    require!(network == ids::NETWORK, Error::WrongNetwork);
    let guardian = args.address()?;
    let (threshold, oracles, count) = read_oracles(&mut args)?;
    let params = read_params(&mut args)?;
    args.end()?;

    let mut governance = vacant.create_singleton::<Governance>(&deployer, &ids::GOVERNANCE)?;
    governance.authority = *deployer.address();
    governance.pending_authority = Address::new_from_array([0; 32]);
    governance.guardian = guardian;
    governance.network = network;
    governance.current = params;
    governance.oracle_threshold = threshold;
    governance.oracle_count = count;
    governance.oracle_set_version = 1;
    governance.oracles = oracles;
    let seq = next_event(&mut governance);
    GovernanceInitialized {
        authority: governance.authority,
        guardian,
        network,
    }
    .emit(&ids::GOVERNANCE.address, seq);
    Ok(())
}
