//! The committed IDL is what the code says.
use common::{
    idl, ids,
    state::{price::Report, Attestation, PriceFeed},
};

#[test]
fn the_committed_idl_is_what_the_code_says() {
    let types = [
        idl::account::<Attestation>(),
        idl::account::<PriceFeed>(),
        idl::plain::<Report>(),
    ];
    let document = idl::document(
        "oracle",
        &ids::ORACLE_ID,
        oracle::INSTRUCTIONS,
        &types,
        oracle::events::EVENTS,
    );
    idl::check("oracle", &document);
}
