//! What a stranger, or a peer that misbehaves, may cost: the bounds of docs/decisions/0005-bounds-of-the-ike-engine.md.

use std::time::Duration;

use ike::sim::{Simulation, Weather, setup};
use ike::*;
use zeroize::Zeroizing;

const FIRST: ChildId = ChildId(1);
const EXCHANGE: usize = 18;

/// Side 0 initiates towards side 1; each side's connection may be changed before.
fn begin(limits: Limits, change: impl Fn(usize, &mut Connection)) -> Simulation {
    Simulation::between(5, limits, Weather::FAIR, |side| {
        let mut connection = setup::called(side, 1);
        change(side, &mut connection);
        connection
    })
}

fn counter(sim: &Simulation, name: &str) -> u64 {
    sim.hosts[1].engine.counters().get(name).copied().unwrap_or(0)
}

/// The first message of side 0, and the path on which side 1 gets it.
fn first_message(sim: &Simulation) -> (Path, Vec<u8>) {
    let (_, sent, bytes) = sim.link.log[0].clone();
    (Path { local: sent.remote, remote: sent.local }, bytes)
}

/// An IKE_SA_INIT request without its notifications and with the shortest nonce: shorter than its answer.
fn shortened(request: &[u8]) -> Vec<u8> {
    const NONCE: u8 = 40;
    let (mut short, mut kind, mut at) = (request[..28].to_vec(), request[16], 28);
    let mut place_of_kind = 16;
    while kind != 0 {
        let length = usize::from(u16::from_be_bytes([request[at + 2], request[at + 3]]));
        if (33..=NONCE).contains(&kind) {
            short[place_of_kind] = kind;
            place_of_kind = short.len();
            let mut payload = request[at..at + length].to_vec();
            if kind == NONCE {
                payload.truncate(4 + 16);
                payload[3] = 4 + 16;
            }
            payload[0] = 0;
            short.extend(payload);
        }
        (kind, at) = (request[at], at + length);
    }
    let length = u32::try_from(short.len()).unwrap_or(0).to_be_bytes();
    short[24..28].copy_from_slice(&length);
    short
}

#[test]
fn a_question_shorter_than_its_answer_costs_no_key_exchange() {
    let mut sim = begin(Limits::default(), |_, _| {});
    let (path, request) = first_message(&sim);
    let mut short = shortened(&request);
    for number in 1..=200u64 {
        short[..8].copy_from_slice(&number.to_be_bytes());
        let answered = sim.link.log.len();
        assert_eq!(sim.inject(1, path, &short), Classified::Ike);
        let bytes: usize = sim.link.log[answered..].iter().map(|(_, _, bytes)| bytes.len()).sum();
        assert!(bytes > 0 && bytes <= short.len(), "{bytes} for {}", short.len());
    }
    assert_eq!((counter(&sim, "cookies_demanded"), counter(&sim, "key_exchanges_answered")), (200, 0));
    assert_eq!(sim.ike_sas()[1], 0);
    // With its own full question a peer comes up beside it.
    sim.run(Duration::from_secs(5));
    assert_eq!(sim.disagreement(FIRST), None);
}

#[test]
fn a_crowd_gets_cookies_before_any_key_exchange() {
    let mut sim =
        begin(Limits { half_open_timeout: Duration::from_secs(3600), ..Limits::default() }, |_, _| {});
    let (path, mut request) = first_message(&sim);
    for number in 1..=200u64 {
        request[..8].copy_from_slice(&number.to_be_bytes());
        sim.inject(1, path, &request);
    }
    let most = Limits::default().cookie_threshold_per_source as u64;
    assert_eq!(counter(&sim, "key_exchanges_answered"), most);
    assert_eq!(counter(&sim, "cookies_demanded"), 200 - most);
}

/// Nothing of a message is read that a cookie does not need, before the cookie is there.
#[test]
fn a_crowd_gets_cookies_before_its_payloads_are_read() {
    const SA_OF_FIRST_PROPOSAL: usize = 28 + 4;
    let mut sim =
        begin(Limits { half_open_timeout: Duration::from_secs(3600), ..Limits::default() }, |_, _| {});
    let (path, request) = first_message(&sim);
    let mut broken = request.clone();
    broken[..8].copy_from_slice(&[0xbb; 8]);
    // The length of the first proposal lies.
    broken[SA_OF_FIRST_PROPOSAL + 2] = 0xff;
    assert!(matches!(sim.inject(1, path, &broken), Classified::Dropped(_)));
    let mut good = request.clone();
    for number in 1..=Limits::default().cookie_threshold_per_source as u64 {
        good[..8].copy_from_slice(&number.to_be_bytes());
        assert_eq!(sim.inject(1, path, &good), Classified::Ike);
    }
    assert_eq!(counter(&sim, "cookies_demanded"), 0);
    assert_eq!(sim.inject(1, path, &broken), Classified::Ike);
    assert_eq!(counter(&sim, "cookies_demanded"), 1);
    // One that was answered is answered again, cookie or not.
    assert_eq!(sim.inject(1, path, &good), Classified::Ike);
    assert_eq!((counter(&sim, "cookies_demanded"), counter(&sim, "responses_repeated")), (1, 1));
}

#[test]
fn half_open_sas_have_a_number_and_a_time() {
    let limits = Limits {
        cookie_threshold: usize::MAX,
        cookie_threshold_per_source: usize::MAX,
        half_open_per_source: 40,
        half_open: 60,
        ..Limits::default()
    };
    for (most_of_source, most) in [(40, 60), (usize::MAX, 60)] {
        let limits = Limits { half_open_per_source: most_of_source, ..limits.clone() };
        let mut sim = begin(limits, |_, _| {});
        let (path, mut request) = first_message(&sim);
        for number in 1..=200u64 {
            request[..8].copy_from_slice(&number.to_be_bytes());
            sim.inject(1, path, &request);
        }
        assert_eq!(sim.ike_sas()[1], most_of_source.min(most));
        assert_eq!(counter(&sim, "half_open_limit"), 200 - most_of_source.min(most) as u64);
        sim.link.cut = true;
        sim.run(Duration::from_secs(31));
        assert_eq!(sim.ike_sas()[1], 0);
    }
}

/// A source whose proofs are refused keeps a place among the half-open for each, and so comes no faster than they end.
#[test]
fn refused_proofs_slow_their_source_down() {
    let limits = Limits {
        retry_base: Duration::from_millis(50),
        retry_max: Duration::from_millis(50),
        ..Limits::default()
    };
    let most = limits.half_open_per_source as u64;
    let mut sim = begin(limits, |side, connection| {
        if side == 0 {
            let key = PreSharedKey(Zeroizing::new(b"a guess".to_vec()));
            connection.authentication = Authentication::pre_shared_key(key);
        }
    });
    sim.run(Duration::from_secs(29));
    assert_eq!(counter(&sim, "authentications_refused"), most);
    assert!(counter(&sim, "half_open_limit") > 0);
    // The places are free again when what was kept for them is forgotten.
    sim.run(Duration::from_secs(60));
    let refused = counter(&sim, "authentications_refused");
    assert!(refused > most && refused <= 4 * most, "{refused}");
}

#[test]
fn nothing_but_the_beginning_reaches_who_is_not_authenticated() {
    const IKE_AUTH: u8 = 35;
    let mut sim = begin(Limits::default(), |_, _| {});
    let is_auth = |bytes: &[u8]| bytes[EXCHANGE] == IKE_AUTH;
    while !sim.link.log.iter().any(|(from, _, bytes)| *from == 0 && is_auth(bytes)) {
        let until = sim.now + Duration::from_secs(1);
        assert!(sim.step(until));
    }
    let (_, sent, auth) =
        sim.link.log.iter().find(|(from, _, bytes)| *from == 0 && is_auth(bytes)).cloned().unwrap();
    let path = Path { local: sent.remote, remote: sent.local };
    // CREATE_CHILD_SA, INFORMATIONAL, IKE_FOLLOWUP_KE, and one that nobody knows.
    for exchange in [36, 37, 44, 60] {
        let mut other = auth.clone();
        other[EXCHANGE] = exchange;
        assert_eq!(sim.inject(1, path, &other), Classified::Dropped("unexpected_exchange"));
    }
    assert!(sim.hosts[1].dataplane.is_empty());
    sim.run(Duration::from_secs(5));
    assert_eq!(sim.disagreement(FIRST), None);
}

#[test]
fn only_authentic_messages_move_a_window() {
    let mut sim = begin(Limits::default(), |_, _| {});
    sim.run(Duration::from_secs(5));
    sim.link.cut = true;
    sim.command(0, Command::RekeyChild(FIRST));
    let (from, sent, request) = sim.link.log.last().cloned().unwrap();
    assert_eq!(from, 0);
    let path = Path { local: sent.remote, remote: sent.local };
    for index in 28..request.len() {
        let mut forged = request.clone();
        forged[index] ^= 1;
        assert!(matches!(sim.inject(1, path, &forged), Classified::Dropped(_)), "at {index}");
    }
    // A message id ahead of the window, authentic or not.
    let mut ahead = request.clone();
    ahead[23] = ahead[23].wrapping_add(1);
    assert_eq!(sim.inject(1, path, &ahead), Classified::Dropped("outside_window"));
    assert_eq!(sim.inject(1, path, &request), Classified::Ike);
    sim.link.cut = false;
    sim.run(Duration::from_secs(20));
    assert_eq!(sim.disagreement(FIRST), None);
}

/// A peer that comes back again and again without a word of what it had.
#[test]
fn ike_sas_of_a_connection_have_a_number() {
    let limits = Limits { initial_contact: false, ike_sas_per_connection: 4, ..Limits::default() };
    let mut sim = begin(limits.clone(), |_, _| {});
    for life in 1..=30u8 {
        sim.hosts[0].engine = Engine::new(limits.clone(), [life; 32]);
        sim.configure(0, setup::connection(0, 1));
        sim.run(Duration::from_millis(200));
        assert!(sim.ike_sas()[1] <= 5, "{:?}", sim.ike_sas());
    }
    assert!(counter(&sim, "crowded_ike_sas") > 20);
}

/// A peer that rekeys each new IKE SA at once, and whose DELETEs never come.
#[test]
fn replaced_ike_sas_have_a_number() {
    const CREATE_CHILD_SA: u8 = 36;
    let mut sim = begin(Limits { ike_sas_per_connection: 4, ..Limits::default() }, |_, _| {});
    sim.run(Duration::from_secs(1));
    for rekey in 0..5 {
        let answers = |sim: &Simulation| {
            let of_rekeys =
                |(from, _, bytes): &&(usize, Path, Vec<u8>)| *from == 1 && bytes[EXCHANGE] == CREATE_CHILD_SA;
            sim.link.log.iter().filter(of_rekeys).count()
        };
        sim.command(0, Command::RekeyIke(ConnectionId(1)));
        for _ in 0..100 {
            if answers(&sim) <= rekey {
                sim.step(sim.now + Duration::from_millis(10));
            }
        }
        assert_eq!(answers(&sim), rekey + 1);
        sim.link.cut = true;
        sim.run(Duration::from_millis(100));
        sim.link.cut = false;
    }
    assert_eq!((counter(&sim, "ike_rekeys_refused"), sim.ike_sas()[1]), (1, 5));
    sim.run(Duration::from_secs(90));
    assert_eq!(sim.ike_sas(), [1, 1]);
    assert_eq!(sim.disagreement(FIRST), None);
}

#[test]
fn children_of_an_ike_sa_have_a_number() {
    let mut sim = begin(Limits { children_per_ike_sa: 3, ..Limits::default() }, |side, connection| {
        connection.children = (1..=6).map(|id| setup::child(side, id)).collect();
        connection.children.iter_mut().for_each(|child| child.start = side == 0);
    });
    sim.run(Duration::from_secs(60));
    assert_eq!(sim.hosts[1].dataplane.len(), 3);
    assert!(counter(&sim, "children_refused") >= 3);
    assert_eq!(sim.disagreement(FIRST), None);
    // They are rekeyed all the same.
    let before = sim.hosts[0].dataplane.sending_on(FIRST);
    sim.command(0, Command::RekeyChild(FIRST));
    sim.run(Duration::from_secs(10));
    assert_ne!(sim.hosts[0].dataplane.sending_on(FIRST), before);
    assert_eq!(sim.disagreement(FIRST), None);
}

fn version_1(limits: Limits) -> Simulation {
    begin(limits, |_, connection| {
        let (ike, esp) = setup::classic();
        connection.version = Version::V1(Ikev1::default());
        connection.proposals = vec![IkeProposal { groups: vec![Group::EcpP256], ..ike }];
        connection.children[0].proposals = vec![esp];
    })
}

/// Version 1 has no cookie: what a first message makes is small, counted, and soon forgotten.
#[test]
fn first_messages_of_version_1_have_a_number_and_a_time() {
    for (limits, most) in [
        (Limits::default(), Limits::default().half_open_per_source),
        (Limits { half_open: 7, ..Limits::default() }, 7),
        (Limits { half_open_per_source: 100, ..Limits::default() }, Limits::default().ike_sas_per_connection),
    ] {
        let mut sim = version_1(limits);
        let (path, mut first) = first_message(&sim);
        for number in 1..=200u64 {
            first[..8].copy_from_slice(&number.to_be_bytes());
            sim.inject(1, path, &first);
        }
        assert_eq!(sim.ike_sas()[1], most);
        sim.link.cut = true;
        sim.run(Duration::from_secs(31));
        assert_eq!(sim.ike_sas()[1], 0);
    }
}

/// First messages in the peer's name, which anyone can send, do not keep the peer out: what has shown nothing makes way.
#[test]
fn spoofed_first_messages_of_version_1_leave_the_peer_its_place() {
    let one_peer = Limits { half_open_per_source: usize::MAX, ..Limits::default() };
    for limits in [Limits::default(), Limits { half_open: 16, ..one_peer.clone() }, one_peer] {
        let mut sim = version_1(limits);
        let (path, mut first) = first_message(&sim);
        for number in 1..=16u64 {
            first[..8].copy_from_slice(&number.to_be_bytes());
            assert_eq!(sim.inject(1, path, &first), Classified::Ike);
        }
        assert_eq!(sim.ike_sas()[1], 16);
        sim.run(Duration::from_secs(5));
        assert_eq!(sim.disagreement(FIRST), None);
        assert_eq!(counter(&sim, "half_open_made_way"), 1);
    }
}

/// Who has given back our cookie keeps its place, whatever comes after it.
#[test]
fn spoofed_first_messages_of_version_1_do_not_push_out_who_has_shown_that_it_receives() {
    let mut sim = version_1(Limits::default());
    let (path, mut first) = first_message(&sim);
    // Message 3 is there when message 4 is sent.
    while sim.link.log.iter().filter(|(from, _, _)| *from == 1).count() < 2 {
        let until = sim.now + Duration::from_secs(1);
        assert!(sim.step(until));
    }
    for number in 1..=200u64 {
        first[..8].copy_from_slice(&number.to_be_bytes());
        let answered = sim.link.log.len();
        sim.inject(1, path, &first);
        let bytes: usize = sim.link.log[answered..].iter().map(|(_, _, bytes)| bytes.len()).sum();
        assert!(bytes <= first.len(), "{bytes} for {}", first.len());
        assert!(sim.ike_sas()[1] <= 16);
    }
    assert_eq!(counter(&sim, "half_open_made_way"), 200 - 15);
    sim.run(Duration::from_secs(5));
    assert_eq!(sim.disagreement(FIRST), None);
}

/// What makes way is not what costs a key exchange: aggressive mode waits for a place.
#[test]
fn floods_of_aggressive_mode_make_no_place_for_themselves() {
    let mut sim = begin(Limits::default(), |_, connection| {
        let (ike, esp) = setup::classic();
        connection.version = Version::V1(Ikev1 { aggressive_mode: true, ..Ikev1::default() });
        connection.proposals = vec![IkeProposal { groups: vec![Group::EcpP256], ..ike }];
        connection.children[0].proposals = vec![esp];
    });
    let (path, mut first) = first_message(&sim);
    for number in 1..=200u64 {
        first[..8].copy_from_slice(&number.to_be_bytes());
        sim.inject(1, path, &first);
    }
    assert_eq!((sim.ike_sas()[1], counter(&sim, "half_open_made_way")), (16, 0));
    assert_eq!(counter(&sim, "half_open_limit"), 200 - 16);
}

/// Anyone can ask in the peer's name for what we do not accept: it is counted each time, and told now and then.
#[test]
fn what_a_stranger_asks_in_vain_is_not_told_more_often_than_it_can_be_read() {
    let mut sim = begin(Limits::default(), |side, connection| {
        let (ike, esp) = setup::classic();
        connection.version = Version::V1(Ikev1::default());
        let group = if side == 0 { Group::EcpP256 } else { Group::EcpP384 };
        connection.proposals = vec![IkeProposal { groups: vec![group], ..ike }];
        connection.children[0].proposals = vec![esp];
    });
    let (path, mut first) = first_message(&sim);
    sim.link.cut = true;
    let told = |sim: &Simulation| {
        let told = |event: &Event| {
            matches!(
                event,
                Event::IkeDown { cause: Cause::NoProposalChosen { phase: Phase::MainMode, .. }, .. }
            )
        };
        sim.hosts[1].events.iter().filter(|(_, event)| told(event)).count()
    };
    for second in 0..30u64 {
        for number in 1..=100u64 {
            first[..8].copy_from_slice(&(1000 * second + number).to_be_bytes());
            assert_eq!(sim.inject(1, path, &first), Classified::Dropped("no_proposal_chosen"));
        }
        sim.run(Duration::from_secs(1));
    }
    // The peer asked itself, once, before the link was cut.
    assert_eq!((told(&sim), counter(&sim, "no_proposal_chosen")), (3, 3000 + 1));
    // What changed may be told at once.
    let mut changed = setup::called(1, 1);
    let (ike, esp) = setup::classic();
    changed.version = Version::V1(Ikev1::default());
    changed.proposals = vec![IkeProposal { groups: vec![Group::Modp2048], ..ike }];
    changed.children[0].proposals = vec![esp];
    sim.configure(1, changed);
    first[..8].copy_from_slice(&[0xcc; 8]);
    sim.inject(1, path, &first);
    assert_eq!(told(&sim), 4);
}

/// Its message ids have no order: a message that nobody remembers could come again, and be followed to where it comes from.
#[test]
fn message_ids_of_version_1_are_all_remembered() {
    const INFORMATIONAL: u8 = 5;
    let mut sim = begin(Limits::default(), |_, connection| {
        let (ike, esp) = setup::classic();
        connection.version = Version::V1(Ikev1::default());
        connection.proposals = vec![IkeProposal { groups: vec![Group::EcpP256], ..ike }];
        connection.children[0].proposals = vec![esp];
        connection.dpd = Some(Dpd { interval: Duration::from_secs(1) });
    });
    sim.run(Duration::from_secs(1500));
    let oldest = sim.link.log.iter().find(|(from, _, bytes)| *from == 0 && bytes[EXCHANGE] == INFORMATIONAL);
    let (_, sent, oldest) = oldest.expect("a message").clone();
    let since = sim.link.log.iter().filter(|(_, _, bytes)| bytes[EXCHANGE] == INFORMATIONAL).count();
    assert!((1_000..4_000).contains(&since), "{since} messages since");
    let elsewhere = Path { local: sent.remote, remote: "203.0.113.66:4500".parse().expect("an address") };
    sim.inject(1, elsewhere, &oldest);
    assert_eq!(counter(&sim, "message_id_used"), 1);
    // One that can remember no more is replaced long before its lifetime is over.
    let spis = |sim: &Simulation| {
        let views = sim.hosts[1].engine.isakmp_sas(sim.now);
        views.iter().map(|view| view.spi_i).collect::<Vec<_>>()
    };
    let before = spis(&sim);
    assert_eq!(before.len(), 1);
    sim.run(Duration::from_secs(7000));
    assert_ne!(spis(&sim), before);
    assert_eq!(sim.disagreement(FIRST), None);
}
