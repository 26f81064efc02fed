//! Leaf 0 of a run, its header: decoded, checked, and written into the epoch account (abi: Merkle tree).

use common::{
    args::Args,
    quantities::{MicroThb, PriceUthb, Wh},
    require,
    state::{
        governance::PRICE_LIMIT,
        trading::{
            Epoch, RunSums, ZonePrice, BITMAP_BYTES, FLAG_BUY_BACK, FLAG_HALTED, FLAG_PAY_AS_BID, STATUS_COMMITTED,
            ZONES,
        },
    },
    Error, ProgramError,
};

/// What the header adds to sums stays below it, so that they fit signed 64 bits.
const SUM_LIMIT: u64 = 1 << 62;
/// A pay-as-bid run's rent is what rounding leaves, below 1 µTHB an order: with at most 1 023 batches of 1 232 bytes it stays below it.
const ROUNDING_LIMIT: u64 = 1 << 17;

/// Starts a run in the epoch account with what its header says. `clearing`: run 0, the only one with trades.
///
/// Errors: `InvalidData` (length), `InvalidHeader` (zones not ascending within 1 … 63, prices or wheeling of 2²³ and more, unknown
/// flags, anything to do with trades in another kind of run, or in a halted epoch; a zone's price, links or more rent than rounding
/// leaves in a pay-as-bid run), `WheelingAboveCap`, `BatchIndexOutOfRange`.
pub fn commit(epoch: &mut Epoch, header: &[u8], clearing: bool) -> Result<(), ProgramError> {
    let mut fields = Args::new(header);
    epoch.seq = fields.u64()?;
    epoch.registry_batches = fields.u16()?;
    epoch.trading_batches = fields.u16()?;
    epoch.orders = fields.u16()?;
    epoch.flags = fields.u16()?;
    epoch.lost_wh = Wh(fields.u64()?);
    epoch.link_wheeling_uthb = MicroThb(fields.u64()?);
    epoch.rent_uthb = fields.i64()?;
    let zones = fields.u16()?;
    let bounded = epoch.lost_wh.0 < SUM_LIMIT && epoch.link_wheeling_uthb.0 < SUM_LIMIT;
    require!(
        bounded && epoch.rent_uthb.unsigned_abs() < SUM_LIMIT,
        Error::InvalidHeader
    );
    let known = FLAG_HALTED | FLAG_BUY_BACK | FLAG_PAY_AS_BID;
    require!(epoch.flags & !known == 0, Error::InvalidHeader);
    let trades_nothing = epoch.lost_wh.is_zero() && epoch.link_wheeling_uthb.is_zero() && epoch.rent_uthb == 0;
    let bare = epoch.flags == 0 && epoch.orders == 0 && trades_nothing && zones == 0;
    require!(clearing || bare, Error::InvalidHeader);
    let halted = epoch.flags & FLAG_HALTED != 0;
    let quiet = epoch.flags & FLAG_BUY_BACK == 0 && epoch.orders == 0 && trades_nothing;
    require!(!halted || quiet, Error::InvalidHeader);
    // Links and prices of zones are an auction's of zones: here they could only move money that no order names.
    let by_order = epoch.flags & FLAG_PAY_AS_BID != 0;
    let no_links = epoch.lost_wh.is_zero() && epoch.link_wheeling_uthb.is_zero();
    let own_prices = !halted && no_links && epoch.rent_uthb.unsigned_abs() < ROUNDING_LIMIT;
    require!(!by_order || own_prices, Error::InvalidHeader);
    // The bitmap has a bit for every leaf that is a batch of this program or lies before one.
    let leaves = first_batch(epoch, clearing) as usize + epoch.trading_batches as usize;
    require!(leaves <= BITMAP_BYTES * 8, Error::BatchIndexOutOfRange);
    epoch.zones = [ZonePrice::default(); ZONES];
    let mut last = 0;
    for _ in 0..zones {
        let zone = fields.u16()? as usize;
        let (price, wheeling) = (PriceUthb(fields.u32()?), PriceUthb(fields.u32()?));
        require!(last < zone && zone < ZONES, Error::InvalidHeader);
        require!(price.0 < PRICE_LIMIT && wheeling.0 < PRICE_LIMIT, Error::InvalidHeader);
        require!(price.0 == 0 || !(halted || by_order), Error::InvalidHeader);
        require!(wheeling <= epoch.wheeling_cap, Error::WheelingAboveCap);
        epoch.zones[zone] = ZonePrice { price, wheeling };
        last = zone;
    }
    fields.end()?;
    epoch.applied = 0;
    epoch.bitmap = [0; BITMAP_BYTES];
    epoch.sums = RunSums::default();
    epoch.status = STATUS_COMMITTED;
    Ok(())
}

/// Leaf index of the run's first trading batch: after the header and, in late and resettlement roots, the registry's batches.
#[inline(always)]
pub fn first_batch(epoch: &Epoch, clearing: bool) -> u32 {
    if clearing {
        1
    } else {
        1 + epoch.registry_batches as u32
    }
}
