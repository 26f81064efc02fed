//! The committed IDL is what the code says.
use common::{
    idl, ids,
    state::{token::Redemption, Deposit, TokenConfig},
};

#[test]
fn the_committed_idl_is_what_the_code_says() {
    let types = [
        idl::account::<TokenConfig>(),
        idl::account::<Deposit>(),
        idl::account::<Redemption>(),
    ];
    let document = idl::document(
        "energy-token",
        &ids::ENERGY_TOKEN_ID,
        energy_token::INSTRUCTIONS,
        &types,
        energy_token::events::EVENTS,
    );
    idl::check("energy-token", &document);
}
