//! Events of the registry. The source is the account that counts: the registry, or the user or meter where it alone is written.

use common::{quantities::Wh, Address};

common::events! {
    /// The singleton exists.
    pub struct RegistryInitialized { pub network: u64, }
    /// A user's status changed; source: the user.
    pub struct UserStatusSet { pub wallet: Address, pub status: u8, pub user_type: u8, pub zone: u16, }
    /// A meter is registered and waits for approval; source: the meter, seq: how often it was registered before.
    pub struct MeterRegistered {
        pub owner: Address, pub device_key: Address, pub meter_id: [u8; 32], pub meter_type: u8, pub zone: u16, pub rating_w: u32,
    }
    /// A meter is admitted; source: the registry.
    pub struct MeterApproved {
        pub meter: Address, pub first_epoch: u32, pub baseline_production_wh: Wh, pub baseline_consumption_wh: Wh,
    }
    /// A meter is suspended or retired from an epoch on; source: the registry.
    pub struct MeterStatusSet { pub meter: Address, pub status: u8, pub from_epoch: u32, }
    /// A meter's readings are signed by another key from an epoch on; source: the registry.
    pub struct DeviceKeySet { pub meter: Address, pub device_key: Address, pub from_epoch: u32, }
    /// A run of an epoch began; source: the registry's `Metered` account, seq = run.
    pub struct RunBegun { pub epoch: u32, pub run: u16, pub kind: u8, }
    /// A run of an epoch is void; source: the registry's `Metered` account, seq = run.
    pub struct MeteredVoided { pub epoch: u32, pub run: u16, }
    /// A batch was booked; its entries are in the instruction. Source: the registry.
    pub struct BatchBooked {
        pub epoch: u32, pub run: u16, pub kind: u8, pub index: u16, pub n: u8,
        pub production_wh: Wh, pub consumption_wh: Wh, pub minted_wh: Wh, pub deficit_wh: Wh, pub x_negative_wh: Wh,
    }
}
