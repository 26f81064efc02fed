//! `request_redemption`: discriminator ‖ reference [u8; 32] ‖ amount u64. Accounts: owner s, payer sw, token_config, thbc_mint w,
//! source w, redemption w, token_program, system_program, governance.
//!
//! Burns THBC of the owner for a payment outside the chain and records it at `["redemption", owner, reference]`, once: the record
//! stays. That the source is the owner's THBC account is Token-2022's check.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{
        token::{Redemption, REDEMPTION_REQUESTED},
        Governance, TokenConfig,
    },
    Error, ProgramResult,
};
use pinocchio::sysvars::{clock::Clock, Sysvar};
use pinocchio_token_2022::instructions::Burn;

use crate::events::RedemptionRequested;

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let owner = accounts.signer()?;
    let payer = accounts.payer()?;
    let config = accounts.singleton::<TokenConfig>(&ids::TOKEN_CONFIG)?;
    let mint = accounts.pinned_mut(&config.thbc_mint)?;
    let source = accounts.external()?;
    let vacant = accounts.vacant()?;
    accounts.pinned(&ids::TOKEN_2022)?;
    accounts.pinned(&ids::SYSTEM_PROGRAM)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_ENERGY_TOKEN)?;
    let reference = *args.array::<32>()?;
    let amount = args.u64()?;
    args.end()?;
    require!(amount > 0, Error::ZeroAmount);

    let seeds: [&[u8]; 3] = [b"redemption", owner.address().as_array(), &reference];
    let (mut redemption, _) = vacant.create::<Redemption>(&payer, &seeds)?;
    redemption.owner = *owner.address();
    redemption.reference = reference;
    redemption.amount = amount;
    redemption.requested_at = Clock::get()?.unix_timestamp;
    redemption.status = REDEMPTION_REQUESTED;
    RedemptionRequested {
        owner: redemption.owner,
        reference,
        amount,
    }
    .emit(redemption.address(), 0);
    Burn::new(source.view(), mint.view(), owner.view(), amount).invoke()
}
