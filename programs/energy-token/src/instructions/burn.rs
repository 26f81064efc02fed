//! `burn`: discriminator ‖ amount u64. Accounts: market s (PDA), token_config, grid_mint w, grid_vault w, token_program.
//! The market's PDA owns the vault and signs only inside the trading program, at an epoch's finalisation.

use common::{accounts::Accounts, args::Args, ids, require, state::TokenConfig, Error, ProgramResult};
use pinocchio_token_2022::instructions::Burn;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let market = accounts.signer()?;
    market.require_is(&ids::MARKET.address)?;
    let config = accounts.singleton::<TokenConfig>(&ids::TOKEN_CONFIG)?;
    let mint = accounts.pinned_mut(&config.grid_mint)?;
    let vault = accounts.pinned_mut(&ids::GRID_VAULT.address)?;
    accounts.pinned(&ids::TOKEN_2022)?;
    let amount = args.u64()?;
    args.end()?;
    require!(amount > 0, Error::ZeroAmount);

    Burn::new(vault.view(), mint.view(), market.view(), amount).invoke()
}
