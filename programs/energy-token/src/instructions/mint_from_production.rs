//! `mint_from_production`: discriminator ‖ amount u64.
//! Accounts: registry s (PDA), token_config, mint_authority, grid_mint w, grid_vault w, token_program.
//! The registry's PDA signs only inside the registry program, which mints what an attested batch adds to its meters' surplus.
//! Pause flags are the registry's business: it checks its own and this program's.

use common::{accounts::Accounts, args::Args, ids, require, state::TokenConfig, Error, ProgramResult};
use pinocchio::cpi::Signer;
use pinocchio_token_2022::instructions::MintTo;

use super::mint_authority_seeds;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let registry = accounts.signer()?;
    registry.require_is(&ids::REGISTRY.address)?;
    let config = accounts.singleton::<TokenConfig>(&ids::TOKEN_CONFIG)?;
    let authority = accounts.pinned(&ids::MINT_AUTHORITY.address)?;
    let mint = accounts.pinned_mut(&config.grid_mint)?;
    let vault = accounts.pinned_mut(&ids::GRID_VAULT.address)?;
    accounts.pinned(&ids::TOKEN_2022)?;
    let amount = args.u64()?;
    args.end()?;
    require!(amount > 0, Error::ZeroAmount);

    MintTo::new(mint.view(), vault.view(), authority.view(), amount)
        .invoke_signed(&[Signer::from(&mint_authority_seeds())])
}
