//! Chains that come back as they went out, and bytes that must be refused.

use proptest::prelude::*;

use super::super::WireError;
use super::registry::{payload as kind, protocol};
use super::*;
use crate::TrafficSelector;

fn classic() -> Vec<Proposal> {
    let attributes = vec![
        Attribute::number(1, 7),
        Attribute::number(14, 128),
        Attribute::number(2, 2),
        Attribute::number(4, 2),
        Attribute::number(3, 1),
        Attribute::number(11, 1),
        Attribute::number(12, 86_400),
    ];
    vec![Proposal {
        number: 1,
        protocol: protocol::ISAKMP,
        spi: vec![],
        transforms: vec![Transform { number: 1, id: 1, attributes }],
    }]
}

/// Octet by octet as RFC 2408 and RFC 2409 lay it out: a lifetime of a day does not fit the short form.
#[test]
fn the_classic_proposal_is_laid_out_as_the_rfcs_say() {
    let expected = [
        0, 0, 0, 1, 0, 0, 0, 1, // DOI, situation
        0, 0, 0, 48, 1, 1, 0, 1, // proposal 1: ISAKMP, no SPI, one transform
        0, 0, 0, 40, 1, 1, 0, 0, // transform 1: KEY_IKE
        0x80, 1, 0, 7, 0x80, 14, 0, 128, 0x80, 2, 0, 2, 0x80, 4, 0, 2, 0x80, 3, 0, 1, 0x80, 11, 0, 1, 0, 12,
        0, 4, 0, 1, 0x51, 0x80,
    ];
    assert_eq!(encode_sa(&classic()), expected);
    let decoded = decode_sa(&expected).unwrap();
    assert_eq!(decoded, classic());
    assert_eq!(decoded[0].transforms[0].lifetime(11, 12, 1), Some(86_400));
    assert_eq!(decoded[0].transforms[0].lifetime(11, 12, 2), None);
}

#[test]
fn lengths_that_lie_are_refused() {
    let good = encode_sa(&classic());
    for index in [11, 19] {
        for value in [0, 3, good[index] - 1, good[index] + 1, 255] {
            let mut bad = good.clone();
            bad[index] = value;
            assert!(decode_sa(&bad).is_err(), "{index} {value}");
        }
    }
    for len in 0..good.len() {
        assert!(decode_sa(&good[..len]).is_err());
    }
    assert_eq!(decode_chain(kind::SA, &[0, 0, 0, 3]), Err(WireError::BadLength));
    let endless: Vec<u8> = [kind::VENDOR, 0, 0, 4].repeat(100);
    assert_eq!(decode_chain(kind::VENDOR, &endless), Err(WireError::TooMany));
}

#[test]
fn a_chain_ends_where_the_padding_begins() {
    let payloads = vec![Payload::new(kind::HASH, vec![1; 16]), Payload::new(kind::NONCE, vec![2; 8])];
    let (first, mut bytes) = encode_chain(&payloads);
    bytes.extend([0; 4]);
    let (decoded, padding) = decode_chain(first, &bytes).unwrap();
    assert_eq!((decoded, padding), (payloads, &[0u8; 4][..]));
}

#[test]
fn phase_two_identities_of_every_shape_come_back() {
    let selectors = [
        ("192.0.2.1", "192.0.2.1", 1),
        ("192.0.2.0", "192.0.2.255", 4),
        ("0.0.0.0", "255.255.255.255", 4),
        ("192.0.2.1", "192.0.2.9", 7),
        ("2001:db8::1", "2001:db8::1", 5),
        ("2001:db8::", "2001:db8::ffff", 6),
        ("2001:db8::1", "2001:db8::2", 8),
    ];
    for (first, last, kind) in selectors {
        let selector = TrafficSelector {
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
            protocol: 47,
            ports: (0, u16::MAX),
        };
        let body = PhaseTwoId::encode(&selector).unwrap();
        assert_eq!(body[..4], [kind, 47, 0, 0]);
        assert_eq!(PhaseTwoId::decode(&body).unwrap(), selector);
    }
    let holed = [4, 0, 0, 0, 10, 0, 0, 0, 255, 0, 255, 0];
    assert_eq!(PhaseTwoId::decode(&holed), Err(WireError::BadValue));
}

#[test]
fn deletes_and_notifies_come_back() {
    for delete in [Delete::Esp(vec![0x1234_5678, 0xdead_beef]), Delete::Isakmp(vec![(1, 2)])] {
        assert_eq!(Delete::decode(&delete.encode()).unwrap(), delete);
    }
    let notify = Notify::about_isakmp(36_136, (3, 4), vec![0, 0, 0, 9]);
    assert_eq!(Notify::decode(&notify.encode()).unwrap(), notify);
    // A count that the payload has no room for.
    assert!(Delete::decode(&[0, 0, 0, 1, 3, 4, 0, 2, 1, 2, 3, 4]).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoders_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), first in any::<u8>()) {
        let _ = Header::decode(&bytes);
        let _ = decode_chain(first, &bytes);
        let _ = Notify::decode(&bytes);
        let _ = Delete::decode(&bytes);
        let _ = PhaseTwoId::decode(&bytes);
        if let Ok(proposals) = decode_sa(&bytes) {
            prop_assert_eq!(decode_sa(&encode_sa(&proposals)).ok(), Some(proposals));
        }
    }
}
