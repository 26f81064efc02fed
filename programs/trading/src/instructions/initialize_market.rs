//! `initialize_market`: discriminator ‖ time_mode u8. Accounts: deployer sw, market w, grid_vault w, thbc_vault w, grid_mint,
//! thbc_mint, governance, token_program, system_program.
//! Once, by the deployer. Vaults are Token-2022 accounts of the market; mints and vaults are pinned here for good.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{
        trading::{Market, TIME_SIMULATED},
        Governance,
    },
    Error, ProgramResult,
};
use pinocchio_token_2022::instructions::InitializeAccount3;

use crate::events::{next_of, MarketInitialized};

/// A Token-2022 account without extensions: both mints have none that its accounts would need.
const TOKEN_ACCOUNT_BYTES: usize = 165;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let time_mode = args.u8()?;
    args.end()?;
    let deployer = accounts.payer()?;
    deployer.require_is(&ids::DEPLOYER)?;
    let market = accounts.vacant()?;
    let vaults = [accounts.vacant()?, accounts.vacant()?];
    let mints = [
        accounts.pinned(&ids::GRID_MINT.address)?,
        accounts.pinned(&ids::THBC_MINT.address)?,
    ];
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    accounts.pinned(&ids::TOKEN_2022)?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;
    require!(time_mode <= TIME_SIMULATED, Error::InvalidData);
    let simulated_mainnet = time_mode == TIME_SIMULATED && governance.network == ids::NETWORK_MAINNET;
    require!(!simulated_mainnet, Error::SimulatedTimeRefused);

    let mut market = market.create_singleton::<Market>(&deployer, &ids::MARKET)?;
    market.network = governance.network;
    market.grid_mint = ids::GRID_MINT.address;
    market.thbc_mint = ids::THBC_MINT.address;
    market.grid_vault = ids::GRID_VAULT.address;
    market.thbc_vault = ids::THBC_VAULT.address;
    market.bump = ids::MARKET.bump;
    market.time_mode = time_mode;
    let seq = next_of(&mut market);
    MarketInitialized {
        network: governance.network,
        time_mode,
    }
    .emit(&ids::MARKET.address, seq);
    for ((vault, at), mint) in vaults.into_iter().zip([&ids::GRID_VAULT, &ids::THBC_VAULT]).zip(&mints) {
        let vault = vault.create_foreign(
            &deployer,
            at,
            TOKEN_ACCOUNT_BYTES,
            TOKEN_ACCOUNT_BYTES,
            &ids::TOKEN_2022,
        )?;
        InitializeAccount3::new(vault.view(), mint.view(), &ids::MARKET.address).invoke()?;
    }
    Ok(())
}
