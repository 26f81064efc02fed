//! The committed IDL is what the code says.
use common::{
    idl, ids,
    state::{proposals::Seat, Certificate, Governance, Params, Proposal, Validators, Vote},
};

#[test]
fn the_committed_idl_is_what_the_code_says() {
    let types = [
        idl::account::<Governance>(),
        idl::plain::<Params>(),
        idl::account::<Validators>(),
        idl::plain::<Seat>(),
        idl::account::<Proposal>(),
        idl::account::<Vote>(),
        idl::account::<Certificate>(),
    ];
    let document = idl::document(
        "governance",
        &ids::GOVERNANCE_ID,
        governance::INSTRUCTIONS,
        &types,
        governance::events::EVENTS,
    );
    idl::check("governance", &document);
}
