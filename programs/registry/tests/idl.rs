//! The committed IDL is what the code says.
use common::{
    idl, ids,
    state::{Meter, Metered, Registry, User},
};

#[test]
fn the_committed_idl_is_what_the_code_says() {
    let types = [
        idl::account::<Registry>(),
        idl::account::<User>(),
        idl::account::<Meter>(),
        idl::account::<Metered>(),
    ];
    let document = idl::document(
        "registry",
        &ids::REGISTRY_ID,
        registry::INSTRUCTIONS,
        &types,
        registry::events::EVENTS,
    );
    idl::check("registry", &document);
}
