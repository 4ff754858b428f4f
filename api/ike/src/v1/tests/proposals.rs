//! What is chosen of offers that are not quite ours (RFC 2408 section 4.2, RFC 2409 section 5, RFC 2407 section 4.5).

use crate::Connection;
use crate::sim::setup;
use crate::v1::proposals::{choose_phase_one, choose_phase_two, offer_phase_one, offer_phase_two};
use crate::wire::isakmp::registry::{phase_one, phase_two};
use crate::wire::isakmp::{Attribute, Transform};

fn connection() -> Connection {
    let (ike, esp) = setup::classic();
    setup::connection_v1(1, 1, ike, &esp)
}

fn attributes(transform: &Transform) -> Vec<(u16, Option<u64>)> {
    transform.attributes.iter().map(|attribute| (attribute.kind, attribute.value())).collect()
}

/// The transform is answered as it came, under its number, and no other.
#[test]
fn a_choice_is_answered_as_it_was_offered() {
    let connection = connection();
    let mut theirs = offer_phase_one(&connection);
    let mut other = theirs[0].transforms[0].clone();
    other.number = 2;
    // A lifetime of a peer's own, which no answer changes.
    other.attributes.retain(|attribute| attribute.kind != phase_one::LIFE_DURATION);
    other.attributes.push(Attribute::number(phase_one::LIFE_DURATION, 7_777_777));
    theirs[0].transforms[0].attributes[0] = Attribute::number(phase_one::ENCRYPTION, 99);
    theirs[0].transforms.push(other.clone());
    let answer = choose_phase_one(&connection, &theirs).unwrap().answer;
    assert_eq!((answer.number, answer.transforms.len(), answer.transforms[0].number), (1, 1, 2));
    assert_eq!(attributes(&answer.transforms[0]), attributes(&other));
}

/// What is left out, said twice, or not understood is not chosen, and so not accepted of an answer either.
#[test]
fn what_is_not_understood_is_not_chosen() {
    let connection = connection();
    let child = &connection.children[0];
    let offers = [offer_phase_one(&connection), offer_phase_two(child, 0x1234, None)];
    for (phase, offer) in offers.into_iter().enumerate() {
        let chosen = |edit: &dyn Fn(&mut Transform)| {
            let mut theirs = offer.clone();
            edit(&mut theirs[0].transforms[0]);
            if phase == 0 {
                choose_phase_one(&connection, &theirs).is_some()
            } else {
                choose_phase_two(child, &theirs, None).is_some()
            }
        };
        assert!(chosen(&|_| {}));
        assert!(!chosen(&|transform| transform.id = 99));
        assert!(!chosen(&|transform| transform.attributes.push(Attribute::number(0x3fff, 1))));
        let lifetimes: [[u16; 2]; 2] = [
            [phase_one::LIFE_TYPE, phase_one::LIFE_DURATION],
            [phase_two::LIFE_TYPE, phase_two::LIFE_DURATION],
        ];
        for attribute in &offer[0].transforms[0].attributes {
            if lifetimes[phase].contains(&attribute.kind) {
                continue;
            }
            let without = |transform: &mut Transform| {
                transform.attributes.retain(|found| found.kind != attribute.kind);
            };
            assert!(!chosen(&without), "phase {}: {} is left out", phase + 1, attribute.kind);
            let twice = |transform: &mut Transform| transform.attributes.push(attribute.clone());
            assert!(!chosen(&twice), "phase {}: {} stands twice", phase + 1, attribute.kind);
        }
    }
}

/// RFC 2409 section 5.5: one key exchange, so one group, in every transform of a quick mode; section 5: one proposal for phase 1.
#[test]
fn an_offer_has_one_group_and_one_proposal() {
    let mut connection = connection();
    connection.proposals[0].groups = vec![crate::Group::Modp2048, crate::Group::EcpP256];
    connection.children[0].proposals[0].groups = vec![crate::Group::EcpP256, crate::Group::Modp2048];
    connection.children[0].proposals[0].integrity.push(crate::EspIntegrity::HmacSha1_96);
    let (first, second) = (offer_phase_one(&connection), offer_phase_two(&connection.children[0], 7, None));
    assert_eq!((first.len(), first[0].transforms.len(), second.len()), (1, 2, 1));
    assert_eq!(second[0].transforms.len(), 2);
    assert!(second[0].transforms.iter().all(|transform| transform.value(phase_two::GROUP) == Some(19)));
    for offer in [&first[0], &second[0]] {
        assert!(offer.transforms.iter().zip(1u8..).all(|(transform, number)| transform.number == number));
    }
}
