//! `initialize`: discriminator ‖ bridge_threshold u8 ‖ bridge vec<pubkey>.
//! Accounts: deployer sw, token_config w, mint_authority, grid_mint w, thbc_mint w, token_program, system_program.
//! Neither mint has a freeze authority, a close authority or a delegate: nobody can move or freeze what is minted.

use common::{
    accounts::{Accounts, Pinned, Signed, Vacant},
    args::Args,
    ids, require,
    state::TokenConfig,
    Error, ProgramResult,
};
use pinocchio::{
    cpi::{invoke_signed, Signer},
    instruction::{InstructionAccount, InstructionView},
};
use pinocchio_token_2022::instructions::{metadata_pointer, InitializeMint2};

use super::mint_authority_seeds;
use crate::{
    events::TokensInitialized,
    metadata::{GRID, MINT_WITH_POINTER},
};

/// 1 GRID = 1 kWh = 1 000 units of 1 Wh.
pub const GRID_DECIMALS: u8 = 3;
/// 1 THBC = 1 THB = 1 000 000 units of 1 µTHB.
pub const THBC_DECIMALS: u8 = 6;
const PLAIN_MINT: usize = 82;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let deployer = accounts.payer()?;
    deployer.require_is(&ids::DEPLOYER)?;
    let vacant = accounts.vacant()?;
    let authority = accounts.pinned(&ids::MINT_AUTHORITY.address)?;
    let grid_mint = accounts.vacant()?;
    let thbc_mint = accounts.vacant()?;
    accounts.pinned(&ids::TOKEN_2022)?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;

    let bridge_threshold = args.u8()?;
    let (bridge, bridge_count) = args.keys::<8>()?;
    args.end()?;
    require!(
        bridge_threshold >= 1 && bridge_threshold <= bridge_count && 2 * bridge_threshold as u32 > bridge_count as u32,
        Error::InvalidThreshold
    );

    let mut config = vacant.create_singleton::<TokenConfig>(&deployer, &ids::TOKEN_CONFIG)?;
    config.grid_mint = ids::GRID_MINT.address;
    config.thbc_mint = ids::THBC_MINT.address;
    config.bridge_threshold = bridge_threshold;
    config.bridge_count = bridge_count;
    config.mint_authority_bump = ids::MINT_AUTHORITY.bump;
    config.bridge = bridge;
    TokensInitialized {
        grid_mint: config.grid_mint,
        thbc_mint: config.thbc_mint,
    }
    .emit(&ids::TOKEN_CONFIG.address, 0);

    create_grid(grid_mint, &deployer, &authority)?;
    let thbc = thbc_mint.create_foreign(&deployer, &ids::THBC_MINT, PLAIN_MINT, PLAIN_MINT, &ids::TOKEN_2022)?;
    InitializeMint2::new(thbc.view(), THBC_DECIMALS, authority.address(), None).invoke()
}

/// GRID carries its name in the mint itself; the mint authority PDA could change it, but no instruction does.
#[inline(never)]
fn create_grid(vacant: Vacant, deployer: &Signed, authority: &Pinned) -> ProgramResult {
    let grid = vacant.create_foreign(
        deployer,
        &ids::GRID_MINT,
        MINT_WITH_POINTER,
        GRID.mint_len(),
        &ids::TOKEN_2022,
    )?;
    metadata_pointer::Initialize {
        mint: grid.view(),
        authority: None,
        metadata_address: Some(grid.address()),
        token_program: &ids::TOKEN_2022,
    }
    .invoke()?;
    InitializeMint2::new(grid.view(), GRID_DECIMALS, authority.address(), None).invoke()?;

    let (data, len) = GRID.instruction();
    let metas = [
        InstructionAccount::writable(grid.address()),
        InstructionAccount::readonly(authority.address()),
        InstructionAccount::readonly(grid.address()),
        InstructionAccount::readonly_signer(authority.address()),
    ];
    invoke_signed(
        &InstructionView {
            program_id: &ids::TOKEN_2022,
            accounts: &metas,
            data: &data[..len],
        },
        &[grid.view(), authority.view(), grid.view(), authority.view()],
        &[Signer::from(&mint_authority_seeds())],
    )
}
