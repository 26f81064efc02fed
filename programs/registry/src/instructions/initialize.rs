//! `initialize`: discriminator. Accounts: deployer sw, registry w, governance, system_program.

use common::{
    accounts::Accounts,
    args::Args,
    ids,
    state::{Governance, Registry},
    ProgramResult,
};

use super::next_event;
use crate::events::RegistryInitialized;

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    let deployer = accounts.payer()?;
    deployer.require_is(&ids::DEPLOYER)?;
    let vacant = accounts.vacant()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;
    args.end()?;

    let mut registry = vacant.create_singleton::<Registry>(&deployer, &ids::REGISTRY)?;
    registry.network = governance.network;
    let seq = next_event(&mut registry);
    RegistryInitialized {
        network: registry.network,
    }
    .emit(&ids::REGISTRY.address, seq);
    Ok(())
}
