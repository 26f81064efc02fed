//! One file an instruction.

pub mod burn;
pub mod initialize;
pub mod issue_thbc;
pub mod mint_from_production;

use pinocchio::cpi::Seed;

use common::ids::MINT_AUTHORITY;

/// Seeds with which the mint authority signs.
fn mint_authority_seeds() -> [Seed<'static>; 2] {
    const BUMP: [u8; 1] = [MINT_AUTHORITY.bump];
    [Seed::from(MINT_AUTHORITY.seed), Seed::from(&BUMP)]
}
