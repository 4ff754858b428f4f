//! What our engine builds, an independent parser reads as our codec does: in clear and, with the keys, inside.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail by panicking")]

use std::net::IpAddr;
use std::time::Duration;

use ike::key_log::KeyRecord;
use ike::sim::reading::{Content, ReadProposal, ReadTransform, read, read_inside};
use ike::sim::{Simulation, Weather, setup};
use ike::{
    ChildId, Command, Connection, ConnectionId, EspEncryption, EspIntegrity, EspProposal, Group, Hash,
    Identity, IkeEncryption, IkeProposal, KeyEncapsulation, Limits, TrafficSelector,
};
use ipsec_parser::{
    IkePayloadType, IkeV2PayloadContent, IkeV2Proposal, parse_ikev2_header, parse_ikev2_payload_generic,
    parse_ikev2_payload_with_type,
};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// Types of payloads.
const SK: u8 = 46;

/// What two ends that can agree are made of.
#[derive(Clone, Debug)]
struct Ends {
    encryption: Vec<IkeEncryption>,
    hashes: Vec<Hash>,
    groups: Vec<Group>,
    esp: Vec<EspEncryption>,
    pfs: bool,
    children: u64,
    identities: [Identity; 2],
    additional: Vec<Vec<KeyEncapsulation>>,
}

/// Any algorithms and identities.
fn ends() -> impl Strategy<Value = Ends> {
    let ike = [
        IkeEncryption::Aes128Gcm16,
        IkeEncryption::Aes256Gcm16,
        IkeEncryption::ChaCha20Poly1305,
        IkeEncryption::Aes128Cbc,
        IkeEncryption::Aes256Cbc,
    ];
    let esp = [
        EspEncryption::Aes128Gcm16,
        EspEncryption::Aes256Gcm16,
        EspEncryption::ChaCha20Poly1305,
        EspEncryption::Aes256Cbc,
    ];
    let hashes = [Hash::Sha1, Hash::Sha2_256, Hash::Sha2_384, Hash::Sha2_512];
    let groups = [Group::Curve25519, Group::EcpP256, Group::Modp2048];
    let identity = prop_oneof![
        "[a-z]{1,20}(\\.[a-z]{1,10}){0,3}".prop_map(Identity::Fqdn),
        "[a-z]{1,9}@[a-z]{1,9}\\.example".prop_map(Identity::Email),
        proptest::collection::vec(any::<u8>(), 1..40).prop_map(Identity::KeyId),
    ];
    (
        subsequence(ike.to_vec(), 1..=5),
        subsequence(hashes.to_vec(), 1..=4),
        subsequence(groups.to_vec(), 1..=3),
        subsequence(esp.to_vec(), 1..=4),
        any::<bool>(),
        1u64..4,
        [identity.clone(), identity],
        select(vec![vec![], vec![vec![KeyEncapsulation::MlKem768]]]),
    )
        .prop_map(|(encryption, hashes, groups, esp, pfs, children, identities, additional)| Ends {
            encryption,
            hashes,
            groups,
            esp,
            pfs,
            children,
            identities,
            additional,
        })
}

impl Ends {
    fn connection(&self, side: usize) -> Connection {
        let mut connection = setup::connection(side, self.children);
        connection.local_identity = self.identities[side].clone();
        connection.remote_identity = self.identities[1 - side].clone();
        connection.proposals = vec![IkeProposal {
            encryption: self.encryption.clone(),
            integrity: self.hashes.clone(),
            prf: self.hashes.clone(),
            groups: self.groups.clone(),
            additional_key_exchanges: self.additional.clone(),
            ..IkeProposal::default()
        }];
        for child in &mut connection.children {
            child.start = side == 0;
            child.proposals = vec![EspProposal {
                encryption: self.esp.clone(),
                integrity: vec![EspIntegrity::HmacSha2_256_128],
                groups: if self.pfs { self.groups.clone() } else { vec![] },
                esn: vec![true, false],
            }];
        }
        connection
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn another_parser_reads_the_same(ends in ends()) {
        let _of_before = ike::key_log::take();
        let limits = Limits { fragment_ipv4_bytes: 60_000, ..Limits::default() };
        let mut sim = Simulation::between(1, limits, Weather::FAIR, |side| ends.connection(side));
        sim.run(Duration::from_secs(2));
        for command in [
            Command::RekeyChild(ChildId(1)),
            Command::RekeyIke(ConnectionId(1)),
            Command::Terminate(ConnectionId(1)),
        ] {
            sim.command(0, command);
            sim.run(Duration::from_secs(3));
        }
        let keys = ike::key_log::take().ike_sas;
        prop_assert!(keys.len() >= 4, "two SAs of two ends");
        let (mut clear, mut inside) = (0, 0);
        for (_, path, bytes) in &sim.link.log {
            let message = if path.local.port() == 4500 { &bytes[4..] } else { &bytes[..] };
            let ours = read(message).expect("our own message");
            let (chain, header) = parse_ikev2_header(message).expect("a header");
            prop_assert_eq!((header.init_spi, header.resp_spi), ours.spis);
            prop_assert_eq!((header.exch_type.0, header.msg_id, header.maj_ver), (ours.exchange, ours.message_id, ours.version));
            prop_assert_eq!(header.length as usize, message.len());
            prop_assert_eq!(&theirs(header.next_payload, chain), &ours.content);
            clear += 1;
            if ours.content.payloads == [SK] {
                let (first, chain) = opened(&keys, ours.spis, message);
                let content = read_inside(first, &chain).expect("our own payloads");
                prop_assert_eq!(&theirs(IkePayloadType(first), &chain), &content);
                inside += 1;
            }
        }
        prop_assert!(clear >= 10 && inside >= 8, "{clear} messages, {inside} opened");
    }
}

fn opened(keys: &[KeyRecord], spis: (u64, u64), message: &[u8]) -> (u8, Vec<u8>) {
    const INITIATOR: u8 = 8;
    let of_initiator = message[19] & INITIATOR != 0;
    let records = keys.iter().filter(|record| (record.spi_i, record.spi_r) == spis);
    records.filter_map(|record| record.open(message, of_initiator)).next().expect("keys that open it")
}

/// What ipsec-parser reads.
fn theirs(first: IkePayloadType, mut chain: &[u8]) -> Content {
    let mut content = Content::default();
    let mut kind = first;
    while kind != IkePayloadType::NoNextPayload {
        let (rest, generic) = parse_ikev2_payload_generic(chain).expect("a payload");
        chain = rest;
        content.payloads.push(kind.0);
        read_one(kind, generic.payload, &mut content);
        if kind.0 == SK {
            break;
        }
        kind = generic.hdr.next_payload_type;
    }
    assert!(chain.is_empty(), "{} octets are left", chain.len());
    content
}

fn read_one(kind: IkePayloadType, body: &[u8], content: &mut Content) {
    // Version 0.7 takes the generic header off the length of some payloads once more, and leaves so many octets.
    let (short, counted) = match kind {
        IkePayloadType::Notify => (body, body.len() + 4),
        IkePayloadType::Delete | IkePayloadType::VendorID => return,
        _ => (body, body.len()),
    };
    if kind == IkePayloadType::Notify {
        let (rest, found) = ipsec_parser::parse_ikev2_payload_notify(short, u16::try_from(counted).unwrap())
            .expect("a notify");
        assert!(rest.is_empty());
        let IkeV2PayloadContent::Notify(found) = found else { unreachable!("{found:?}") };
        let octets = |found: Option<&[u8]>| found.unwrap_or_default().to_vec();
        content.notifications.push((found.notify_type.0, octets(found.spi), octets(found.notify_data)));
        return;
    }
    let length = u16::try_from(counted).unwrap();
    let (rest, found) = parse_ikev2_payload_with_type(short, length, kind).expect("a body");
    assert!(rest.is_empty());
    match found {
        IkeV2PayloadContent::SA(proposals) => content.proposals.extend(proposals.iter().map(proposal)),
        IkeV2PayloadContent::KE(found) => {
            content.key_exchanges.push((found.dh_group.0, found.kex_data.to_vec()));
        }
        IkeV2PayloadContent::IDi(found) | IkeV2PayloadContent::IDr(found) => {
            content.identities.push((found.id_type.0, found.ident_data.to_vec()));
        }
        IkeV2PayloadContent::TSi(found) | IkeV2PayloadContent::TSr(found) => {
            assert_eq!(usize::from(found.num_ts), found.ts.len());
            content.selectors.extend(found.ts.iter().map(|selector| TrafficSelector {
                first: address(selector.start_addr),
                last: address(selector.end_addr),
                protocol: selector.ip_proto_id,
                ports: (selector.start_port, selector.end_port),
            }));
        }
        _ => {}
    }
}

fn address(octets: &[u8]) -> IpAddr {
    match <[u8; 4]>::try_from(octets) {
        Ok(octets) => octets.into(),
        Err(_) => <[u8; 16]>::try_from(octets).unwrap().into(),
    }
}

fn proposal(found: &IkeV2Proposal<'_>) -> ReadProposal {
    let transforms = found.transforms.iter().map(|transform| {
        let attributes = transform.attributes.unwrap_or_default();
        ReadTransform {
            kind: transform.transform_type.0,
            id: transform.transform_id,
            attributes: (attributes.chunks(4))
                .map(|attribute| {
                    let word = |at: usize| u16::from_be_bytes([attribute[at], attribute[at + 1]]);
                    (word(0) & 0x7fff, Some(u64::from(word(2))))
                })
                .collect(),
        }
    });
    ReadProposal {
        number: found.proposal_num,
        protocol: found.protocol_id.0,
        spi: found.spi.unwrap_or_default().to_vec(),
        transforms: transforms.collect(),
    }
}
