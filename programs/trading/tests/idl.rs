//! The committed IDL is what the code says.
use common::{
    idl, ids,
    state::trading::{Epoch, Mandate, Market, PriceSecond, RunSums, Slot, Trader, ZonePrice},
};

#[test]
fn the_committed_idl_is_what_the_code_says() {
    let types = [
        idl::account::<Market>(),
        idl::account::<Trader>(),
        idl::account::<Epoch>(),
        idl::plain::<Mandate>(),
        idl::plain::<PriceSecond>(),
        idl::plain::<Slot>(),
        idl::plain::<ZonePrice>(),
        idl::plain::<RunSums>(),
    ];
    let events = trading::events::EVENTS;
    let document = idl::document("trading", &ids::TRADING_ID, trading::INSTRUCTIONS, &types, events);
    idl::check("trading", &document);
}
