//! Round trips, and refusals by name.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::TrafficSelector;

fn transform() -> impl Strategy<Value = Transform> {
    (any::<u8>(), any::<u16>(), any::<Option<u16>>()).prop_map(|(kind, id, key_bits)| Transform {
        kind: TransformKind::from(kind),
        id,
        key_bits,
        unknown_attribute: false,
    })
}

fn proposal() -> impl Strategy<Value = WireProposal> {
    let spi = proptest::collection::vec(any::<u8>(), 0..9);
    (any::<u8>(), any::<u8>(), spi, proptest::collection::vec(transform(), 0..8)).prop_map(
        |(number, protocol, spi, transforms)| WireProposal {
            number,
            protocol: Protocol::from(protocol),
            spi,
            transforms,
        },
    )
}

fn selector() -> impl Strategy<Value = TrafficSelector> {
    let v4 = (any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    let v6 = (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b)));
    (prop_oneof![v4, v6], any::<u8>(), any::<(u16, u16)>()).prop_map(|((a, b), protocol, ports)| {
        let ports = (ports.0.min(ports.1), ports.0.max(ports.1));
        TrafficSelector { first: a.min(b), last: a.max(b), protocol, ports }
    })
}

fn payload() -> impl Strategy<Value = Payload> {
    let bytes = |range| proptest::collection::vec(any::<u8>(), range);
    let selectors = || proptest::collection::vec(selector(), 0..6);
    let identity = || (any::<u8>(), bytes(0..40)).prop_map(|(kind, data)| WireIdentity { kind, data });
    prop_oneof![
        proptest::collection::vec(proposal(), 1..5).prop_map(Payload::Sa),
        (any::<u16>(), bytes(0..300)).prop_map(|(group, data)| Payload::KeyExchange { group, data }),
        identity().prop_map(Payload::IdI),
        identity().prop_map(Payload::IdR),
        (any::<u8>(), bytes(0..64)).prop_map(|(method, data)| Payload::Auth { method, data }),
        (any::<u8>(), bytes(0..64)).prop_map(|(encoding, data)| Payload::Certificate { encoding, data }),
        (any::<u8>(), bytes(0..64))
            .prop_map(|(encoding, data)| Payload::CertificateRequest { encoding, data }),
        bytes(16..257).prop_map(Payload::Nonce),
        (any::<u8>(), bytes(0..9), any::<u16>(), bytes(0..40)).prop_map(|(protocol, spi, kind, data)| {
            Payload::Notify(Notify { protocol: Protocol::from(protocol), spi, kind, data })
        }),
        proptest::collection::vec(any::<u32>(), 0..9).prop_map(|spis| Payload::Delete(Delete::Esp(spis))),
        Just(Payload::Delete(Delete::IkeSa)),
        bytes(0..40).prop_map(Payload::Vendor),
        selectors().prop_map(Payload::TsI),
        selectors().prop_map(Payload::TsR),
        (54u8..=255, bytes(0..40)).prop_map(|(kind, data)| Payload::Skipped { kind, data }),
    ]
}

fn header() -> Header {
    Header {
        spi_i: 7,
        spi_r: 0,
        first: 0,
        exchange: Exchange::IkeSaInit,
        initiator: true,
        response: false,
        message_id: 0,
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(payloads in proptest::collection::vec(payload(), 0..8)) {
        let bytes = Message::encode(header(), &payloads);
        prop_assume!(bytes.len() <= MAX_MESSAGE_BYTES);
        let message = Message::decode(&bytes).unwrap();
        prop_assert_eq!(message.payloads, payloads);
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Message::decode(&bytes);
        let _ = FirstMessage::read(&bytes);
    }

    /// Whatever is a good first message is one before it is read whole, and shows the same.
    #[test]
    fn a_first_message_shows_its_nonce_and_cookie_as_it_stands(
        mut payloads in proptest::collection::vec(payload(), 0..8),
        cookies in proptest::collection::vec((any::<u8>(), proptest::collection::vec(any::<u8>(), 0..70)), 0..3),
        change in any::<Option<(prop::sample::Index, u8)>>(),
    ) {
        for (at, data) in cookies {
            let at = usize::from(at) % (payloads.len() + 1);
            payloads.insert(at, Payload::Notify(Notify::new(registry::notify::COOKIE, data)));
        }
        let mut bytes = Message::encode(header(), &payloads);
        if let Some((at, to)) = change {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        let shown = FirstMessage::read(&bytes);
        let Ok(message) = Message::decode(&bytes) else { return Ok(()) };
        let nonces: Vec<_> = message.payloads.iter().filter_map(|payload| match payload {
            Payload::Nonce(nonce) => Some(nonce.as_slice()),
            _ => None,
        }).collect();
        let begins = Header { first: message.header.first, spi_i: message.header.spi_i, ..header() };
        let ([nonce], true) = (nonces.as_slice(), message.header == begins) else {
            prop_assert!(shown.is_none());
            return Ok(());
        };
        let shown = shown.expect("a first message");
        prop_assert_eq!((shown.header, shown.len_bytes), (message.header, bytes.len()));
        prop_assert_eq!(shown.nonce, *nonce);
        let cookie = message.payloads.iter().find_map(|payload| match payload {
            Payload::Notify(notify) if notify.kind == registry::notify::COOKIE => Some(notify.data.as_slice()),
            _ => None,
        });
        prop_assert_eq!(shown.cookie, cookie);
    }

    #[test]
    fn no_changed_byte_panics_and_no_prefix_is_a_message(
        payloads in proptest::collection::vec(payload(), 1..6),
        at in any::<prop::sample::Index>(),
        to in any::<u8>(),
    ) {
        let mut bytes = Message::encode(header(), &payloads);
        let index = at.index(bytes.len());
        prop_assert!(Message::decode(&bytes[..index]).is_err());
        bytes[index] = to;
        let _ = Message::decode(&bytes);
    }
}

#[test]
fn the_encrypted_payload_must_be_last_and_alone_inside() {
    let encrypted = Payload::Encrypted(Encrypted { first: 0, body: vec![1; 40] });
    let (first, mut bytes) = encode_payloads(&[encrypted]);
    assert_eq!(decode_payloads(first, &bytes), Err(WireError::BadValue));
    bytes.push(0);
    assert_eq!(decode_payloads(first, &bytes), Err(WireError::EncryptedNotLast));
}

#[test]
fn limits_hold() {
    let many = vec![Payload::Vendor(vec![]); MAX_PAYLOADS + 1];
    assert_eq!(Message::decode(&Message::encode(header(), &many)), Err(WireError::TooMany));
    let long = vec![Payload::Vendor(vec![0; MAX_MESSAGE_BYTES])];
    assert_eq!(Message::decode(&Message::encode(header(), &long)), Err(WireError::TooLong));
    let transforms = vec![Transform::plain(TransformKind::Prf, 5); 200];
    let proposal = WireProposal { number: 1, protocol: Protocol::Ike, spi: vec![], transforms };
    let sa = Payload::Sa(vec![proposal.clone(), proposal]);
    assert_eq!(Message::decode(&Message::encode(header(), &[sa])), Err(WireError::TooMany));
}

#[test]
fn versions_and_critical_payloads_are_refused_by_name() {
    let mut bytes = Message::encode(header(), &[Payload::Skipped { kind: 200, data: vec![1] }]);
    assert!(Message::decode(&bytes).is_ok());
    bytes[HEADER_LEN_BYTES + 1] = 0x80;
    assert_eq!(Message::decode(&bytes), Err(WireError::UnknownCritical(200)));
    bytes[17] = 0x10;
    assert_eq!(Message::decode(&bytes), Err(WireError::BadVersion));
}

fn read_alone(kind: u8, body: &[u8]) -> Result<Payload, WireError> {
    Payload::decode(kind, false, &mut Reader::new(body))
}

/// RFC 7296 section 3.9.
#[test]
fn nonces_have_sixteen_to_256_octets() {
    for (len, good) in [(0, false), (15, false), (16, true), (256, true), (257, false)] {
        assert_eq!(read_alone(registry::payload::NONCE, &vec![7; len]).is_ok(), good, "{len}");
    }
}

/// RFC 7296 section 3.11: four octets name an ESP SA, none the IKE SA.
#[test]
fn deletes_name_as_many_spis_of_the_length_as_they_say() {
    let delete = |body: &[u8]| read_alone(registry::payload::DELETE, body);
    assert_eq!(delete(&[1, 0, 0, 0]), Ok(Payload::Delete(Delete::IkeSa)));
    assert_eq!(delete(&[3, 4, 0, 1, 0, 0, 1, 2]), Ok(Payload::Delete(Delete::Esp(vec![0x102]))));
    for lie in [
        &[1, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1][..],
        &[3, 8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1],
        &[3, 4, 0, 2, 0, 0, 0, 1],
    ] {
        assert!(delete(lie).is_err(), "{lie:?}");
    }
}

/// RFC 7296 section 3.13.1: all ports are 0 to 65535. The reverse, OPAQUE, is another thing, and nothing that we agree to.
#[test]
fn opaque_ports_are_not_any_ports() {
    let selector =
        |ports: [u8; 4]| [&[1, 0, 0, 0, 7, 6, 0, 16][..], &ports, &[10, 0, 0, 1], &[10, 0, 0, 1]].concat();
    let read = |ports| read_alone(registry::payload::TS_I, &selector(ports));
    let address = IpAddr::from([10, 0, 0, 1]);
    let any = TrafficSelector { first: address, last: address, protocol: 6, ports: (0, u16::MAX) };
    assert_eq!(read([0, 0, 0xff, 0xff]), Ok(Payload::TsI(vec![any])));
    assert_eq!(read([0xff, 0xff, 0, 0]), Ok(Payload::TsI(vec![])));
    let mut writer = Writer::default();
    selector::encode_all(&[any], &mut writer);
    assert_eq!(writer.into_bytes(), selector([0, 0, 0xff, 0xff]));
}

/// RFC 7296 sections 3.2 to 3.13: what is reserved is not looked at.
#[test]
fn reserved_octets_say_nothing() {
    let transform = |reserved: u8| [0, reserved, 0, 8, 2, reserved, 0, 5];
    let proposal = |reserved: u8| [&[0, reserved, 0, 16, 1, 1, 0, 1][..], &transform(reserved)].concat();
    let bodies = |reserved: u8| -> Vec<(u8, Vec<u8>)> {
        use registry::payload::{AUTH, ID_I, KE, SA, TS_R};
        let selector = [7, 0, 0, 16, 0, 0, 0xff, 0xff, 10, 0, 0, 1, 10, 0, 0, 1];
        vec![
            (SA, proposal(reserved)),
            (KE, vec![0, 31, reserved, reserved, 1, 2, 3]),
            (ID_I, vec![2, reserved, reserved, reserved, b'a']),
            (AUTH, vec![2, reserved, reserved, reserved, 1]),
            (TS_R, [&[1, reserved, reserved, reserved][..], &selector].concat()),
        ]
    };
    for ((kind, clean), (_, marked)) in bodies(0).into_iter().zip(bodies(0xff)) {
        let read = read_alone(kind, &clean);
        assert!(read.is_ok() && read == read_alone(kind, &marked), "{kind}");
    }
}
