//! Account layouts that more than one program reads, one file per owning program.

pub mod certificate;
pub mod governance;
pub mod oracle;
pub mod price;
pub mod proposals;
pub mod registry;
pub mod token;
pub mod trading;

pub use certificate::Certificate;
pub use governance::{Governance, Params};
pub use oracle::{Attestation, Kind};
pub use price::PriceFeed;
pub use proposals::{Proposal, Validators, Vote};
pub use registry::{Meter, Metered, Registry, Status, User};
pub use token::{Deposit, TokenConfig};

/// Bits of a batch bitmap: the highest index of a leaf that a run can have, plus one.
pub const MAX_BATCHES: u16 = 1_024;
/// Zones are 1 … 63.
pub const MAX_ZONE: u16 = 63;
/// Most oracles, as votes are a 16-bit map.
pub const MAX_ORACLES: usize = 16;
/// Most bridge attestors.
pub const MAX_BRIDGE: usize = 8;
