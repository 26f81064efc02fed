//! `reclaim_redemption`: discriminator. Accounts: owner s, redemption w, token_config, mint_authority, thbc_mint w, destination w,
//! token_program, governance.
//! What the bridge has not confirmed in 24 h the owner takes back: the same amount is minted again, to an account of its choice.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{
        token::{Redemption, REDEMPTION_RECLAIMED, REDEMPTION_REQUESTED},
        Governance, TokenConfig,
    },
    Error, ProgramResult,
};
use pinocchio::{
    cpi::Signer,
    sysvars::{clock::Clock, Sysvar},
};
use pinocchio_token_2022::instructions::MintTo;

use super::mint_authority_seeds;
use crate::events::RedemptionReclaimed;

const RECLAIM_SECONDS: i64 = 24 * 3_600;

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    args.end()?;
    let owner = accounts.signer()?;
    let mut redemption = accounts.state_mut::<Redemption>()?;
    let config = accounts.singleton::<TokenConfig>(&ids::TOKEN_CONFIG)?;
    let authority = accounts.pinned(&ids::MINT_AUTHORITY.address)?;
    let mint = accounts.pinned_mut(&config.thbc_mint)?;
    let destination = accounts.external()?;
    accounts.pinned(&ids::TOKEN_2022)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_ENERGY_TOKEN)?;
    owner.require_is(&redemption.owner)?;
    require!(redemption.status == REDEMPTION_REQUESTED, Error::InvalidTransition);
    let waited = Clock::get()?.unix_timestamp.saturating_sub(redemption.requested_at);
    require!(waited >= RECLAIM_SECONDS, Error::ReclaimTooEarly);

    redemption.status = REDEMPTION_RECLAIMED;
    let amount = redemption.amount;
    RedemptionReclaimed {
        amount,
        destination: *destination.address(),
    }
    .emit(redemption.address(), 1);
    MintTo::new(mint.view(), destination.view(), authority.view(), amount)
        .invoke_signed(&[Signer::from(&mint_authority_seeds())])
}
