//! SA records out of what the engine negotiated, and the records of owners that name SAs.

use std::net::IpAddr;

use ike::{ChildPair, EspEncryption, EspIntegrity, EspKeys, Mode, Path};
use shm::Writer;
use shm::records::{
    Address, NONE, PolicyRecord, SELECTORS_MOST, SaRecord, TrafficSelector, TunnelRecord, algorithm,
    direction, integrity, mode, owner,
};
use zerocopy::FromZeros;
use zeroize::Zeroize;

use super::{OwnerRecord, SaError};
use crate::compile::{Child, Owner};
use crate::slots::Slots;

/// Without extended sequence numbers an SA ends with its sequence numbers (RFC 4303 section 3.3.3).
const SHORT_SEQUENCE_PACKETS: u64 = u32::MAX as u64;

// The engine agrees to no more than an SA can carry.
const _: () = assert!(ike::SELECTORS_MOST == SELECTORS_MOST);

/// A record that is overwritten when it goes.
pub(super) struct Half {
    pub(super) record: SaRecord,
}

impl Half {
    /// Addresses of an outer header, and the ports of an encapsulated one.
    pub(super) fn send_between(&mut self, path: Path) {
        let record = &mut self.record;
        (record.family, record.local) = Address::from_ip(path.local.ip());
        record.remote = path.remote.ip().into();
        if record.udp_encapsulation == 1 {
            (record.local_port, record.remote_port) = (path.local.port(), path.remote.port());
        } else {
            (record.local_port, record.remote_port) = (0, 0);
        }
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        self.record.key.zeroize();
        self.record.integrity_key.zeroize();
        self.record.salt.zeroize();
    }
}

/// The inbound and the outbound record of a pair, without generations.
///
/// # Errors
/// The keys or the selectors do not fit.
pub(super) fn records(
    pair: &ChildPair,
    child: &Child,
    owner_kind: u8,
    owner: u32,
) -> Result<[Half; 2], SaError> {
    let selectors = (side(&pair.local_selectors)?, side(&pair.remote_selectors)?);
    let half = |direction: u8, spi: u32, keys: &EspKeys| {
        let mut half = Half { record: SaRecord::new_zeroed() };
        let record = &mut half.record;
        (record.algorithm, record.integrity) = algorithms(pair);
        put_keys(record, keys).ok_or(SaError::Keys)?;
        record.present = 1;
        record.direction = direction;
        record.mode = match pair.mode {
            Mode::Transport => mode::TRANSPORT,
            Mode::Tunnel => mode::TUNNEL,
        };
        record.esn = u8::from(pair.esn);
        record.udp_encapsulation = u8::from(pair.udp_encapsulation);
        record.owner_kind = owner_kind;
        record.owner = owner;
        record.spi = spi;
        record.replay_window = if direction == direction::INBOUND { child.replay_window } else { 0 };
        limits(pair, record);
        (record.local_selectors, record.remote_selectors) = selectors;
        record.peer = child.remote.into();
        half.send_between(pair.path);
        Ok(half)
    };
    Ok([
        half(direction::INBOUND, pair.spi_in, &pair.keys_in)?,
        half(direction::OUTBOUND, pair.spi_out, &pair.keys_out)?,
    ])
}

fn algorithms(pair: &ChildPair) -> (u8, u8) {
    let cipher = match pair.encryption {
        EspEncryption::Aes128Gcm16 => algorithm::AES_128_GCM_16,
        EspEncryption::Aes256Gcm16 => algorithm::AES_256_GCM_16,
        EspEncryption::ChaCha20Poly1305 => algorithm::CHACHA20_POLY1305,
        EspEncryption::Aes128Cbc => algorithm::AES_128_CBC,
        EspEncryption::Aes192Cbc => algorithm::AES_192_CBC,
        EspEncryption::Aes256Cbc => algorithm::AES_256_CBC,
        EspEncryption::TripleDesCbc => algorithm::TRIPLE_DES_CBC,
    };
    let integrity = match pair.integrity {
        None => integrity::NONE,
        Some(EspIntegrity::HmacMd5_96) => integrity::HMAC_MD5_96,
        Some(EspIntegrity::HmacSha1_96) => integrity::HMAC_SHA1_96,
        Some(EspIntegrity::HmacSha2_256_128) => integrity::HMAC_SHA2_256_128,
        Some(EspIntegrity::HmacSha2_384_192) => integrity::HMAC_SHA2_384_192,
        Some(EspIntegrity::HmacSha2_512_256) => integrity::HMAC_SHA2_512_256,
    };
    (cipher, integrity)
}

/// Puts keys into a record that names its algorithms; `None` if they are not of the lengths of those.
fn put_keys(record: &mut SaRecord, keys: &EspKeys) -> Option<()> {
    let combined = algorithm::is_combined(record.algorithm);
    let fits = keys.key.len() == usize::from(algorithm::key_len(record.algorithm)?)
        && keys.salt.len() == if combined { record.salt.len() } else { 0 }
        && keys.integrity.len() == integrity::key_len(record.integrity)?
        && combined == (record.integrity == integrity::NONE);
    if !fits {
        return None;
    }
    record.key_len = u16::try_from(keys.key.len()).ok()?;
    record.key.get_mut(..keys.key.len())?.copy_from_slice(&keys.key);
    record.salt.get_mut(..keys.salt.len())?.copy_from_slice(&keys.salt);
    record.integrity_key.get_mut(..keys.integrity.len())?.copy_from_slice(&keys.integrity);
    Some(())
}

fn limits(pair: &ChildPair, record: &mut SaRecord) {
    let lifetime = &pair.lifetime;
    let sequence = (!pair.esn).then_some(SHORT_SEQUENCE_PACKETS);
    let hard_packets = [lifetime.hard_packets, sequence].into_iter().flatten().min();
    let soft_packets =
        [lifetime.soft_packets, sequence.map(|most| most - most / 10)].into_iter().flatten().min();
    record.soft_packets = soft_packets.unwrap_or(0);
    record.hard_packets = hard_packets.unwrap_or(0);
    record.soft_bytes = lifetime.soft_bytes.unwrap_or(0);
    record.hard_bytes = lifetime.hard_bytes.unwrap_or(0);
}

/// What was agreed on one side, all of it and nothing besides (RFC 7296 section 2.9).
fn side(agreed: &[ike::TrafficSelector]) -> Result<[TrafficSelector; SELECTORS_MOST], SaError> {
    let mut side = [TrafficSelector::NONE; SELECTORS_MOST];
    if !(1..=side.len()).contains(&agreed.len()) {
        return Err(SaError::Selectors);
    }
    for (place, selector) in side.iter_mut().zip(agreed) {
        let (family, first) = Address::from_ip(selector.first);
        *place = TrafficSelector {
            ports: [selector.ports.0, selector.ports.1],
            protocol: selector.protocol,
            ..TrafficSelector::range(family, first, selector.last.into())
        };
    }
    Ok(side)
}

/// Whether an SA that was found is what a child of today would have: with the same peer, wherever that has moved.
pub(super) fn serves(sa: &SaRecord, child: &Child) -> bool {
    let mode_fits = sa.mode == child.mode || (child.tunnel_fallback && sa.mode == mode::TUNNEL);
    mode_fits
        && sa.local.to_ip(sa.family) == Some(child.local)
        && sa.peer.to_ip(sa.family) == Some(child.remote)
}

/// Where the SA in a slot sends to, and whether in UDP.
pub(super) fn destination(writer: &Writer, slot: u32) -> Option<(IpAddr, bool)> {
    let half = Half { record: writer.read::<SaRecord>(slot).ok()?.record? };
    Some((half.record.remote.to_ip(half.record.family)?, half.record.udp_encapsulation == 1))
}

/// The owner of an SA that was found.
pub(super) fn owner_of(sa: &SaRecord, slots: &Slots) -> Option<Owner> {
    match sa.owner_kind {
        owner::TUNNEL => slots.tunnels.key(sa.owner).cloned().map(Owner::Tunnel),
        owner::POLICY => slots.policies.key(sa.owner).cloned().map(Owner::Policy),
        _ => None,
    }
}

/// Kind and slot of an owner.
pub(super) fn owner_slot(slots: &Slots, owner: &Owner) -> Option<(u8, u32)> {
    match owner {
        Owner::Tunnel(name) => slots.tunnels.slot(name).map(|slot| (owner::TUNNEL, slot)),
        Owner::Policy(key) => slots.policies.slot(key).map(|slot| (owner::POLICY, slot)),
    }
}

/// The SA that an owner's record names.
pub(super) fn outbound_of(writer: &Writer, slots: &Slots, owner: &Owner) -> Option<u32> {
    let outbound = match owner_record(writer, slots, owner)? {
        OwnerRecord::Tunnel(_, record) => record.outbound_sa,
        OwnerRecord::Policy(_, record) => record.outbound_sa,
    };
    (outbound != NONE).then_some(outbound)
}

/// Makes an owner's record name another SA. An owner that is not written yet will name it when it is.
pub(super) fn put_outbound(writer: &mut Writer, slots: &Slots, owner: &Owner, outbound: Option<u32>) {
    let outbound_sa = outbound.unwrap_or(NONE);
    // The slots came out of the tables themselves: they are within them.
    let _ = match owner_record(writer, slots, owner) {
        Some(OwnerRecord::Tunnel(slot, record)) => writer.put(slot, &TunnelRecord { outbound_sa, ..record }),
        Some(OwnerRecord::Policy(slot, record)) => writer.put(slot, &PolicyRecord { outbound_sa, ..record }),
        None => return,
    };
}

fn owner_record(writer: &Writer, slots: &Slots, owner: &Owner) -> Option<OwnerRecord> {
    match owner_slot(slots, owner)? {
        (owner::TUNNEL, slot) => {
            writer.read(slot).ok()?.record.map(|record| OwnerRecord::Tunnel(slot, record))
        }
        (_, slot) => writer.read(slot).ok()?.record.map(|record| OwnerRecord::Policy(slot, record)),
    }
}
