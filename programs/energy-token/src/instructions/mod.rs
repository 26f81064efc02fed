//! One file an instruction.

pub mod burn;
pub mod confirm_redemption;
pub mod initialize;
pub mod issue_thbc;
pub mod mint_from_production;
pub mod reclaim_redemption;
pub mod request_redemption;

use common::{accounts::Rest, ids::MINT_AUTHORITY, require, state::TokenConfig, Address, Error, ProgramError};
use pinocchio::cpi::Seed;

/// Seeds with which the mint authority signs.
fn mint_authority_seeds() -> [Seed<'static>; 2] {
    const BUMP: [u8; 1] = [MINT_AUTHORITY.bump];
    [Seed::from(MINT_AUTHORITY.seed), Seed::from(&BUMP)]
}

/// At least k distinct bridge attestors signed: `NotEnoughAttestors`, `Unauthorised` for a stranger among them.
fn require_attestors(config: &TokenConfig, mut rest: Rest) -> Result<(), ProgramError> {
    let mut signed = 0u8;
    for attestor in rest.each() {
        let attestor = attestor.signed()?;
        signed |= 1 << position(config, attestor.address())?;
    }
    require!(
        signed.count_ones() >= config.bridge_threshold as u32,
        Error::NotEnoughAttestors
    );
    Ok(())
}

/// Position of an attestor in the bridge set, so that one who signs twice counts once.
fn position(config: &TokenConfig, key: &Address) -> Result<usize, ProgramError> {
    config.bridge[..(config.bridge_count as usize).min(8)]
        .iter()
        .position(|attestor| attestor == key)
        .ok_or_else(|| Error::Unauthorised.into())
}
