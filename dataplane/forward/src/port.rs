//! A port, as the stages see it.

use packet::header::ethernet::Mac;
use shm::records::PortRecord;

/// A port.
#[derive(Clone, Debug)]
pub struct Port {
    /// Link-layer address of the device.
    pub(crate) mac: Mac,
    /// Whether it is administratively up.
    pub(crate) enabled: bool,
    /// Whether a crypto map is applied: what leaves is classified.
    pub(crate) has_crypto_map: bool,
    /// MTU of the IP layer, in bytes.
    pub(crate) mtu_bytes: usize,
}

impl Port {
    /// From its record and the address of its device.
    pub fn new(record: &PortRecord, mac: Mac) -> Self {
        Self {
            mac,
            enabled: record.enabled != 0,
            has_crypto_map: record.crypto_map != 0,
            mtu_bytes: record.mtu_bytes as usize,
        }
    }
}
