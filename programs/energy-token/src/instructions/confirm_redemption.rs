//! `confirm_redemption`: discriminator. Accounts: redemption w, token_config, governance, then at least k distinct bridge attestors,
//! signers. The bridge confirms before it pays: from then on the owner can't take the THBC back.

use common::{
    accounts::Accounts,
    args::Args,
    ids, require,
    state::{
        token::{Redemption, REDEMPTION_CONFIRMED, REDEMPTION_REQUESTED},
        Governance, TokenConfig,
    },
    Error, ProgramResult,
};

use super::require_attestors;
use crate::events::RedemptionConfirmed;

pub fn process(mut accounts: Accounts, args: Args) -> ProgramResult {
    args.end()?;
    let mut redemption = accounts.state_mut::<Redemption>()?;
    let config = accounts.singleton::<TokenConfig>(&ids::TOKEN_CONFIG)?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    governance.require_running(ids::PROGRAM_ENERGY_TOKEN)?;
    require!(redemption.status == REDEMPTION_REQUESTED, Error::InvalidTransition);
    require_attestors(&config, accounts.rest())?;
    redemption.status = REDEMPTION_CONFIRMED;
    RedemptionConfirmed {
        amount: redemption.amount,
    }
    .emit(redemption.address(), 1);
    Ok(())
}
