//! Signed orders on chain: the message, the Ed25519 instruction that proves it, and the slots that hold its allowance (domain §4).

use common::{
    args::Args,
    quantities::PriceUthb,
    require,
    state::{
        governance::PRICE_TICK,
        trading::{Slot, Trader, SIDE_SELL, SLOT_PLACED, SLOT_RECORDED},
    },
    Address, Error, ProgramError,
};

/// `gridtokenx/order/v1` and a zero byte open every order message.
const TAG: &[u8; 20] = b"gridtokenx/order/v1\0";
/// Length of an order message.
pub const MESSAGE_BYTES: usize = 169;
/// Orders a wallet may place per epoch; the nonce numbers them from 0.
pub const MAX_NONCE: u64 = 50;
/// 1 000 kWh.
pub const MAX_ORDER_WH: u32 = 1_000_000;

/// The terms of an order that the chain acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub network: u64,
    pub market: Address,
    pub side: u8,
    pub energy_wh: u32,
    pub limit: PriceUthb,
    pub epoch: u32,
    pub nonce: u64,
}

impl Order {
    /// Decodes an order message; `InvalidOrder` for another length or tag, a side above 1, no energy or above 1 000 kWh,
    /// a nonce above 49, a limit off the tick.
    pub fn decode(message: &[u8; MESSAGE_BYTES]) -> Result<Self, ProgramError> {
        let mut fields = Args::new(message);
        require!(fields.array::<20>()? == TAG, Error::InvalidOrder);
        let (network, market) = (fields.u64()?, fields.address()?);
        // The order id and the meter's hash bind the order off chain; the chain only needs them signed.
        fields.bytes(16 + 32)?;
        let order = Self {
            network,
            market,
            side: fields.u8()?,
            energy_wh: fields.u32()?,
            limit: PriceUthb(fields.u32()?),
            epoch: fields.u32()?,
            nonce: fields.u64()?,
        };
        require!(order.side <= SIDE_SELL && order.nonce < MAX_NONCE, Error::InvalidOrder);
        require!(
            0 < order.energy_wh && order.energy_wh <= MAX_ORDER_WH,
            Error::InvalidOrder
        );
        require!(order.limit.0.is_multiple_of(PRICE_TICK), Error::InvalidOrder);
        Ok(order)
    }
}

/// Signer and message of the data of an Ed25519 instruction that verifies exactly one signature held in itself.
/// `InvalidOrderSignature` otherwise: an offset into another instruction would let the caller choose what was verified.
pub fn signed_message(data: &[u8]) -> Result<(&[u8; 32], &[u8; MESSAGE_BYTES]), Error> {
    const THIS_INSTRUCTION: u16 = u16::MAX;
    const INVALID: Error = Error::InvalidOrderSignature;
    if data.len() < 16 || data[0] != 1 {
        return Err(INVALID);
    }
    let field = |offset: usize| u16::from_le_bytes([data[offset], data[offset + 1]]);
    if [4, 8, 14].into_iter().any(|offset| field(offset) != THIS_INSTRUCTION) || field(12) as usize != MESSAGE_BYTES {
        return Err(INVALID);
    }
    let (key, message) = (field(6) as usize, field(10) as usize);
    let key = data
        .get(key..key + 32)
        .and_then(|bytes| bytes.first_chunk())
        .ok_or(INVALID)?;
    let message = data
        .get(message..message + MESSAGE_BYTES)
        .and_then(|bytes| bytes.first_chunk())
        .ok_or(INVALID)?;
    Ok((key, message))
}

/// Marks the order's nonce as recorded; `OrderAlreadyRecorded` the second time. `epoch` never runs back:
/// orders are recorded only while their run is the next to finalise.
pub fn use_nonce(trader: &mut Trader, epoch: u32, nonce: u64) -> Result<(), Error> {
    if trader.nonce_epoch > epoch || nonce >= MAX_NONCE {
        return Err(Error::InvalidOrder);
    }
    if trader.nonce_epoch < epoch {
        trader.nonce_epoch = epoch;
        trader.nonce_bits = 0;
    }
    let bit = 1 << nonce;
    if trader.nonce_bits & bit != 0 {
        return Err(Error::OrderAlreadyRecorded);
    }
    trader.nonce_bits |= bit;
    Ok(())
}

/// Adds an order's Wh to the slots: equal (epoch, side, limit) add up; a free slot, or one of an epoch before this one (settled, since
/// this one is next), is taken; else it merges with the nearest recorded limit of its epoch and side at the stricter of both. A
/// recorded order was filled, so both limits hold at this epoch's price and merging forbids nothing; one placed on chain may not
/// have been, so nothing merges with it: two slots are left free of those. `NoSlot` if nothing fits.
pub fn add_to_slots(trader: &mut Trader, order: &Order) -> Result<(), Error> {
    let mut free = None;
    let mut nearest: Option<(u32, usize)> = None;
    for (index, slot) in trader.slots.iter_mut().enumerate() {
        if slot.used == 0 || slot.epoch < order.epoch {
            free = free.or(Some(index));
        } else if slot.used == SLOT_RECORDED && slot.epoch == order.epoch && slot.side == order.side {
            let distance = slot.limit.0.abs_diff(order.limit.0);
            if distance == 0 {
                slot.energy_wh = slot
                    .energy_wh
                    .checked_add(order.energy_wh)
                    .ok_or(Error::BalanceOverflow)?;
                return Ok(());
            }
            if nearest.is_none_or(|(least, _)| distance < least) {
                nearest = Some((distance, index));
            }
        }
    }
    if let Some(index) = free {
        trader.slots[index] = Slot {
            epoch: order.epoch,
            limit: order.limit,
            energy_wh: order.energy_wh,
            side: order.side,
            used: SLOT_RECORDED,
            _pad: 0,
        };
        trader.placed[index] = 0;
        return Ok(());
    }
    let (_, index) = nearest.ok_or(Error::NoSlot)?;
    let slot = &mut trader.slots[index];
    slot.limit = if order.side == SIDE_SELL {
        slot.limit.max(order.limit)
    } else {
        slot.limit.min(order.limit)
    };
    slot.energy_wh = slot
        .energy_wh
        .checked_add(order.energy_wh)
        .ok_or(Error::BalanceOverflow)?;
    Ok(())
}

/// Slots that stay free of orders placed on chain, for recorded ones.
pub const FREE_SLOTS: usize = 2;

/// An order placed on chain.
pub struct Placed {
    pub epoch: u32,
    pub side: u8,
    pub limit: PriceUthb,
    pub energy_wh: u32,
    pub number: u64,
}

/// Puts an order into a slot and returns which: added to an equal one, or in one that is free or settled. Errors: `SelfTrade` where
/// an order of the epoch is on the other side, `NoSlot` where fewer than two would stay free, `InvalidOrder` above 1 000 kWh in one.
pub fn place(trader: &mut Trader, order: &Placed, settled_through: u32) -> Result<u8, Error> {
    let (mut free, mut equal, mut spare) = (None, None, 0);
    for (index, slot) in trader.slots.iter().enumerate() {
        if slot.used == 0 || slot.epoch <= settled_through {
            free = Some(index);
            spare += 1;
        } else if slot.epoch == order.epoch {
            if slot.side != order.side {
                return Err(Error::SelfTrade);
            }
            if slot.used == SLOT_PLACED && slot.limit == order.limit {
                equal = Some(index);
            }
        }
    }
    let mut energy_wh = order.energy_wh;
    let index = match (equal, free) {
        (Some(index), _) => {
            energy_wh += trader.slots[index].energy_wh;
            if energy_wh > MAX_ORDER_WH {
                return Err(Error::InvalidOrder);
            }
            index
        }
        (None, Some(index)) if spare > FREE_SLOTS => index,
        _ => return Err(Error::NoSlot),
    };
    trader.slots[index] = Slot {
        epoch: order.epoch,
        limit: order.limit,
        energy_wh,
        side: order.side,
        used: SLOT_PLACED,
        _pad: 0,
    };
    trader.placed[index] = order.number;
    Ok(index as u8)
}
