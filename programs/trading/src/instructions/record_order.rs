//! `record_order`: discriminator ‖ index u16 ‖ depth u8 ‖ proof. Accounts: trader w, epoch, market, attestation, governance,
//! instructions_sysvar.
//!
//! Anyone may record a filled order, once, in any order, between commitment and batches: the Ed25519 instruction right before this
//! one proves the owner's signature over exactly these bytes, and a leaf of the clearing root says that it was filled.

use common::{
    accounts::Accounts,
    args::Args,
    batch::{in_tree, split_proof, RunId},
    ids,
    merkle::{fold, sha256},
    require,
    state::{
        governance::PRICE_LIMIT,
        trading::{Epoch, Market, Trader},
        Attestation, Governance, Kind,
    },
    Error, ProgramResult,
};
use pinocchio::sysvars::instructions::Instructions;

use super::require_turn;
use crate::{
    events::OrderRecorded,
    header::first_batch,
    orders::{add_to_slots, signed_message, use_nonce, Order},
};

pub fn process(mut accounts: Accounts, mut args: Args) -> ProgramResult {
    let mut trader = accounts.state_mut::<Trader>()?;
    let epoch = accounts.state::<Epoch>()?;
    let market = accounts.singleton::<Market>(&ids::MARKET)?;
    let attestation = accounts.state::<Attestation>()?;
    let governance = accounts.singleton::<Governance>(&ids::GOVERNANCE)?;
    let sysvar = accounts.pinned(&ids::INSTRUCTIONS_SYSVAR)?;
    governance.require_running(ids::PROGRAM_TRADING)?;
    require!(epoch.kind == Kind::Clearing as u8, Error::WrongKind);
    require_turn(&market, &epoch)?;

    let instructions = Instructions::try_from(sysvar.view())?;
    let before = instructions
        .get_instruction_relative(-1)
        .map_err(|_| Error::InvalidOrderSignature)?;
    require!(
        before.get_program_id() == &ids::ED25519_PROGRAM,
        Error::InvalidOrderSignature
    );
    let (key, message) = signed_message(before.get_instruction_data())?;
    require!(key == trader.owner.as_array(), Error::InvalidOrderSignature);
    let order = Order::decode(message)?;
    let of_this = order.network == market.network && order.market == ids::MARKET.address && order.epoch == epoch.epoch;
    require!(of_this, Error::InvalidOrder);
    // Not the epoch's band: it may have changed after the order was signed, and a filled order that can't be recorded would stop
    // the epoch for ever. A limit outside harms nobody, since what is traded has the epoch's price.
    require!(order.limit.0 < PRICE_LIMIT, Error::PriceOutOfBand);

    let (index, depth) = (args.u16()?, args.u8()?);
    let (proof, rest) = split_proof(args.tail(), depth)?;
    require!(rest.is_empty(), Error::InvalidData);
    let first = first_batch(&epoch, true) + epoch.trading_batches as u32;
    let offset = (index as u32).wrapping_sub(first);
    require!(
        offset < epoch.orders as u32 && in_tree(index, depth),
        Error::BatchIndexOutOfRange
    );
    let id = RunId {
        network: market.network,
        kind: Kind::Clearing,
        epoch: epoch.epoch,
        run: epoch.run,
    };
    let leaf = id
        .leaf_id(&ids::TRADING_ID, index)
        .leaf(&sha256(&[message]), [trader.address()].into_iter());
    let root = attestation.final_root(Kind::Clearing, epoch.epoch, epoch.run)?;
    require!(&fold(leaf, index, proof) == root, Error::WrongRoot);

    use_nonce(&mut trader, order.epoch, order.nonce)?;
    add_to_slots(&mut trader, &order)?;
    let seq = trader.event_seq;
    trader.event_seq = seq + 1;
    OrderRecorded {
        epoch: order.epoch,
        nonce: order.nonce,
        side: order.side,
        limit: order.limit,
        energy_wh: order.energy_wh,
    }
    .emit(trader.address(), seq);
    Ok(())
}
