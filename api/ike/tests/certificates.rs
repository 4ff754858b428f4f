//! Two engines that prove themselves by certificates: what is accepted, and what is refused in which words.

mod pki;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use ike::sim::{Simulation, Weather, setup};
use ike::*;
use pki::{Ca, Leaf, NOW, both, params, remote};
use rcgen::{CertificateParams, IsCa, KeyPair, KeyUsagePurpose, NameConstraints, RsaKeySize, date_time_ymd};
use zeroize::Zeroizing;

const NAMES: [&str; 2] = ["alpha.example", "beta.example"];

fn fqdn(name: &str) -> Identity {
    Identity::Fqdn(name.to_owned())
}

fn connection(side: usize, authentication: Authentication) -> Connection {
    Connection {
        local_identity: fqdn(NAMES[side]),
        remote_identity: fqdn(NAMES[1 - side]),
        authentication,
        ..setup::called(side, 1)
    }
}

/// Side 0 initiates. The identities are [`NAMES`] unless changed.
fn run(authentications: [Authentication; 2], change: impl Fn(usize, &mut Connection)) -> Simulation {
    let mut sim = Simulation::new(Instant::now(), 23, Limits::default(), Weather::FAIR);
    let now = sim.now;
    for (side, authentication) in authentications.into_iter().enumerate().rev() {
        let mut connection = connection(side, authentication);
        change(side, &mut connection);
        sim.hosts[side].engine.set_wall_clock(now, NOW);
        sim.configure(side, connection);
    }
    sim.run(Duration::from_secs(15));
    sim
}

fn cause(sim: &Simulation, side: usize) -> String {
    let mut causes = sim.hosts[side].events.iter().filter_map(|(_, event)| match event {
        Event::IkeDown { cause, .. } => Some(cause.to_string()),
        _ => None,
    });
    causes.next().unwrap_or_else(|| "nothing went wrong".to_owned())
}

fn assert_up(sim: &Simulation) {
    assert_eq!(sim.ike_sas(), [1, 1], "{} / {}", cause(sim, 0), cause(sim, 1));
    assert!(sim.hosts.iter().all(|host| !host.dataplane.is_empty()));
}

/// `side` refuses in words that contain `words`; the other learns nothing but that it failed.
fn assert_refused(sim: &Simulation, side: usize, words: &str) {
    assert!(sim.hosts.iter().all(|host| host.dataplane.is_empty()), "something was installed");
    let told = cause(sim, side);
    assert!(told.contains("we refused the peer") && told.contains(words), "{told}");
    if side == 1 {
        let heard = cause(sim, 0);
        assert!(heard.contains("the peer refused us") && !heard.contains(words), "{heard}");
    }
}

/// Both sides have a good certificate of the same root.
fn good(ca: &Ca) -> [Authentication; 2] {
    NAMES.map(|name| both(&ca.leaf(&params(name, &[name])), ca.trust()))
}

/// `side` bears this certificate and the other one trusts this; it refuses in these words.
fn refuses(leaf: &Leaf, trusted: &TrustMaterial, words: &str) {
    let ca = Ca::root("The other side's");
    for side in 0..2 {
        let other = 1 - side;
        let honest = ca.leaf(&params(NAMES[other], &[NAMES[other]]));
        let mut authentications = [both(&honest, trusted.clone()), both(&honest, trusted.clone())];
        authentications[side] = both(leaf, ca.trust());
        // The certificate bears both names, so that it can be either side's.
        let sim = run(authentications, |_, _| {});
        assert_refused(&sim, other, words);
    }
}

#[test]
fn each_kind_of_key_proves_itself_both_ways() {
    let ca = Ca::root("Root");
    let rsa = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let rsa = ca.certify(&params("rsa", &NAMES), rsa);
    let others = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
        .map(|algorithm| ca.leaf_of(&params("leaf", &NAMES), algorithm).local());
    let proofs = [rsa.local_with(RsaPadding::Pss), rsa.local_with(RsaPadding::Pkcs1)];
    for local in proofs.into_iter().chain(others) {
        let authentication = Authentication { local, remote: remote(ca.trust()) };
        assert_up(&run([authentication.clone(), authentication], |_, _| {}));
    }
}

#[test]
fn a_chain_of_three_leads_to_the_root() {
    let root = Ca::root_of("Root", KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap());
    let regional = root.below("Regional", |_| {});
    let issuing = regional.below("Issuing", |_| {});
    let authentications = NAMES.map(|name| {
        let leaf = issuing.leaf(&params(name, &[name])).with_issuer(&issuing).with_issuer(&regional);
        both(&leaf, root.trust())
    });
    assert_up(&run(authentications, |_, _| {}));
    let without = issuing.leaf(&params("gap", &NAMES)).with_issuer(&issuing);
    refuses(
        &without,
        &root.trust(),
        "its issuer is C=CH, O=Culvert, CN=Regional, trusted are C=CH, O=Culvert, CN=Root",
    );
}

#[test]
fn one_side_may_use_a_key_and_the_other_a_certificate() {
    let ca = Ca::root("Root");
    let key = PreSharedKey(Zeroizing::new(b"correct horse battery staple".to_vec()));
    for (signer, name) in NAMES.iter().enumerate() {
        let leaf = ca.leaf(&params(name, &[name]));
        let signs = Authentication { local: leaf.local(), remote: RemoteProof::PreSharedKey(key.clone()) };
        let keyed =
            Authentication { local: LocalProof::PreSharedKey(key.clone()), remote: remote(ca.trust()) };
        let authentications = if signer == 0 { [signs, keyed] } else { [keyed, signs] };
        assert_up(&run(authentications, |_, _| {}));
    }
}

#[test]
fn a_proof_of_another_kind_is_refused_even_if_it_is_right() {
    let ca = Ca::root("Root");
    let key = PreSharedKey(Zeroizing::new(b"correct horse battery staple".to_vec()));
    let leaf = ca.leaf(&params("leaf", &NAMES));
    let keyed = Authentication { local: LocalProof::PreSharedKey(key.clone()), remote: remote(ca.trust()) };
    let demands = both(&leaf, ca.trust());
    assert_refused(&run([keyed, demands], |_, _| {}), 1, "a pre-shared key where a certificate is required");
    let signs = Authentication { local: leaf.local(), remote: RemoteProof::PreSharedKey(key.clone()) };
    let keyed = Authentication::pre_shared_key(key);
    assert_refused(&run([signs, keyed], |_, _| {}), 1, "where a pre-shared key is required");
}

#[test]
fn identities_are_names_addresses_mail_addresses_or_the_subject() {
    let ca = Ca::root("Root");
    let mut names = params("gw", &["alpha.example", "beta.example", "192.0.2.1", "192.0.2.2"]);
    let mailbox = "ops@Example.net".try_into().unwrap();
    names.subject_alt_names.push(rcgen::SanType::Rfc822Name(mailbox));
    let leaf = ca.leaf(&names);
    let subject = leaf_subject(&leaf);
    let kinds = [
        [fqdn("ALPHA.example"), fqdn("beta.EXAMPLE")],
        [Identity::Address(IpAddr::from([192, 0, 2, 1])), Identity::Address(IpAddr::from([192, 0, 2, 2]))],
        [Identity::Email("ops@example.net".to_owned()), Identity::Email("ops@Example.net".to_owned())],
        [Identity::DistinguishedName(subject.clone()), Identity::DistinguishedName(subject)],
    ];
    for identities in kinds {
        let authentication = both(&leaf, ca.trust());
        let sim = run([authentication.clone(), authentication], |side, connection| {
            connection.local_identity = identities[side].clone();
            connection.remote_identity = identities[1 - side].clone();
        });
        assert_up(&sim);
    }
}

#[test]
fn an_identity_that_is_not_in_the_certificate_is_refused() {
    let ca = Ca::root("Root");
    // The common name alone, a wildcard, and a key id are no identities.
    let leaf = ca.leaf(&params("alpha.example", &["*.example", "beta.example"]));
    for side in 0..2 {
        let honest = ca.leaf(&params("honest", &NAMES));
        let mut authentications = [both(&honest, ca.trust()), both(&honest, ca.trust())];
        authentications[side] = both(&leaf, ca.trust());
        let sim = run(authentications.clone(), |of, connection| {
            if of == side {
                connection.local_identity = fqdn("alpha.example");
                connection.remote_identity = fqdn("beta.example");
            } else {
                connection.local_identity = fqdn("beta.example");
                connection.remote_identity = fqdn("alpha.example");
            }
        });
        assert_refused(
            &sim,
            1 - side,
            "the identity alpha.example is not in the certificate, which names C=CH, O=Culvert, CN=alpha.example; *.example; beta.example",
        );
        let sim = run(authentications, |of, connection| {
            let key_id = Identity::KeyId(b"beta.example".to_vec());
            if of == side {
                connection.local_identity = key_id;
            } else {
                connection.remote_identity = key_id;
            }
        });
        assert_refused(&sim, 1 - side, "is not in the certificate");
    }
}

#[test]
fn validity_is_judged_by_the_hosts_time_of_day() {
    let ca = Ca::root("Root");
    let mut expired = params("old", &NAMES);
    expired.not_after = date_time_ymd(2026, 2, 1);
    refuses(
        &ca.leaf(&expired),
        &ca.trust(),
        "the certificate of C=CH, O=Culvert, CN=old expired on 2026-02-01",
    );
    let mut early = params("early", &NAMES);
    early.not_before = date_time_ymd(2026, 12, 1);
    refuses(&ca.leaf(&early), &ca.trust(), "CN=early is not valid before 2026-12-01");
    let old = ca.below("Old", |params| params.not_after = date_time_ymd(2026, 3, 1));
    let leaf = old.leaf(&params("leaf", &NAMES));
    refuses(&leaf, &old.trust(), "CN=Old expired on 2026-03-01");
    refuses(&leaf.with_issuer(&old), &ca.trust(), "CN=Old expired on 2026-03-01");
}

#[test]
fn without_a_time_of_day_no_certificate_is_good() {
    let ca = Ca::root("Root");
    let mut sim = Simulation::new(Instant::now(), 5, Limits::default(), Weather::FAIR);
    for (side, authentication) in good(&ca).into_iter().enumerate().rev() {
        sim.configure(side, connection(side, authentication));
    }
    sim.run(Duration::from_secs(15));
    assert_refused(&sim, 1, "the time of day is not known");
}

#[test]
fn a_revoked_certificate_is_refused() {
    let root = Ca::root("Root");
    let issuing = root.below("Issuing", |params| params.serial_number = Some(9u64.into()));
    let mut of_leaf = params("gone", &NAMES);
    of_leaf.serial_number = Some(7u64.into());
    let leaf = issuing.leaf(&of_leaf).with_issuer(&issuing);
    let with = |lists: Vec<Vec<u8>>, revocation| TrustMaterial {
        revocation_lists: lists,
        revocation,
        ..root.trust()
    };
    let revoked = "the certificate of C=CH, O=Culvert, CN=gone is revoked";
    let (fresh, old) = (issuing.revocation_list(&[3, 7], 12), issuing.revocation_list(&[3, 7], 5));
    refuses(&leaf, &with(vec![fresh], RevocationPolicy::IfAvailable), revoked);
    refuses(&leaf, &with(vec![old], RevocationPolicy::IfAvailable), revoked);
    let of_root = root.revocation_list(&[9], 12);
    refuses(&leaf, &with(vec![of_root], RevocationPolicy::IfAvailable), "CN=Issuing is revoked");
}

#[test]
fn an_old_or_missing_list_means_what_the_policy_says() {
    use RevocationPolicy::{IfAvailable, IfFresh, Required};
    let ca = Ca::root("Root");
    let leaf = ca.leaf(&params("leaf", &NAMES));
    let with = |lists: &[&Vec<u8>], revocation| TrustMaterial {
        revocation_lists: lists.iter().map(|list| (*list).clone()).collect(),
        revocation,
        ..ca.trust()
    };
    let (fresh, old) = (ca.revocation_list(&[3], 12), ca.revocation_list(&[3], 5));
    for material in
        [with(&[], IfAvailable), with(&[&old], IfAvailable), with(&[], IfFresh), with(&[&fresh], Required)]
    {
        let authentication = both(&leaf, material);
        assert_up(&run([authentication.clone(), authentication], |_, _| {}));
    }
    refuses(&leaf, &with(&[&old], IfFresh), "a revocation list ended on 2026-05-28");
    refuses(&leaf, &with(&[], Required), "a revocation list is required and there is none");
    let others = Ca::root("Another").revocation_list(&[], 12);
    refuses(&leaf, &with(&[&others], Required), "no revocation list says");
}

#[test]
fn a_ca_that_is_not_trusted_is_named() {
    let (ours, theirs) = (Ca::root("Ours"), Ca::root("Theirs"));
    let leaf = theirs.leaf(&params("stranger", &NAMES));
    refuses(
        &leaf,
        &ours.trust(),
        "CN=stranger is not issued by a trusted CA: its issuer is C=CH, O=Culvert, CN=Theirs, trusted are C=CH, O=Culvert, CN=Ours",
    );
    // A CA of the same name with another key.
    let impostor = Ca::root("Ours").leaf(&params("stranger", &NAMES));
    refuses(&impostor, &ours.trust(), "a signature in the chain of C=CH, O=Culvert, CN=stranger is wrong");
}

#[test]
fn name_constraints_bind_what_a_ca_may_vouch_for() {
    let root = Ca::root("Root");
    let constrained = |subtree| {
        root.below("Narrow", |params: &mut CertificateParams| {
            params.name_constraints =
                Some(NameConstraints { permitted_subtrees: vec![subtree], excluded_subtrees: vec![] });
        })
    };
    let narrow = constrained(rcgen::GeneralSubtree::DnsName("example.org".to_owned()));
    let leaf = narrow.leaf(&params("leaf", &NAMES)).with_issuer(&narrow);
    refuses(&leaf, &root.trust(), "the name constraints of its CA do not permit");
    let wide = constrained(rcgen::GeneralSubtree::DnsName("example".to_owned()));
    let authentication = both(&wide.leaf(&params("leaf", &NAMES)).with_issuer(&wide), root.trust());
    assert_up(&run([authentication.clone(), authentication], |_, _| {}));
}

#[test]
fn certificates_for_other_ends_are_refused() {
    let ca = Ca::root("Root");
    let mut is_ca = params("ca", &NAMES);
    is_ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    is_ca.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign];
    refuses(&ca.leaf(&is_ca), &ca.trust(), "CN=ca is that of a CA");
    let mut code = params("code", &NAMES);
    code.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::CodeSigning];
    refuses(&ca.leaf(&code), &ca.trust(), "the extended key usage of C=CH, O=Culvert, CN=code");
    let mut server = params("server", &NAMES);
    server.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let authentication = both(&ca.leaf(&server), ca.trust());
    assert_up(&run([authentication.clone(), authentication], |_, _| {}));
    // One that issues without being a CA.
    let end = ca.leaf(&params("end", &NAMES));
    let false_ca = Ca { params: params("end", &NAMES), key: end.key, der: end.chain[0].clone() };
    let issued = false_ca.leaf(&params("issued", &NAMES)).with_issuer(&false_ca);
    refuses(&issued, &ca.trust(), "has an issuer that is no CA");
    let no_issuer = ca.below("Crl only", |params| params.key_usages = vec![KeyUsagePurpose::CrlSign]);
    let issued = no_issuer.leaf(&params("issued", &NAMES)).with_issuer(&no_issuer);
    refuses(&issued, &ca.trust(), "which its key usage forbids");
}

#[test]
fn a_pinned_certificate_needs_no_issuer_but_its_exact_bytes() {
    let pin = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = params(name, &NAMES);
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        Leaf { chain: vec![der], key }
    };
    let (one, other) = (pin("self"), pin("self"));
    let pinned = TrustMaterial { pinned: one.chain.clone(), ..TrustMaterial::default() };
    let authentication = both(&one, pinned.clone());
    assert_up(&run([authentication.clone(), authentication], |_, _| {}));
    refuses(&other, &pinned, "that of a CA");
}

#[test]
fn a_certificate_and_key_that_do_not_belong_together_are_not_taken() {
    let ca = Ca::root("Root");
    let (one, other) = (ca.leaf(&params("one", &[])), ca.leaf(&params("other", &[])));
    let refusal = |chain: Vec<Vec<u8>>, key: &[u8]| {
        LocalCertificate::new(chain, key, RsaPadding::Pss).map(|_| ()).unwrap_err().to_string()
    };
    let mixed = refusal(one.chain.clone(), other.key.serialized_der());
    assert_eq!(mixed, "the private key is not that of the certificate");
    assert!(refusal(one.chain.clone(), b"not a key").contains("PKCS#8"));
    assert!(refusal(vec![], one.key.serialized_der()).contains("there is no certificate"));
    assert!(refusal(vec![vec![0x30, 0]], one.key.serialized_der()).contains("is not a certificate"));
    let leaf = TrustMaterial { anchors: one.chain.clone(), ..TrustMaterial::default() };
    assert!(Trust::new(leaf).map(|_| ()).unwrap_err().to_string().contains("is not the certificate of a CA"));
}

/// The connection of side 1 as [`run`] makes it, with another trust.
fn reconfigure(sim: &mut Simulation, authentication: Authentication) {
    sim.configure(1, connection(1, authentication));
    sim.run(Duration::from_secs(15));
}

#[test]
fn renewed_certificates_and_new_lists_leave_good_sas_alone_and_end_revoked_ones() {
    let ca = Ca::root("Root");
    let mut of_alpha = params(NAMES[0], &[NAMES[0]]);
    of_alpha.serial_number = Some(7u64.into());
    let alpha = ca.leaf(&of_alpha);
    let beta = || ca.leaf(&params(NAMES[1], &[NAMES[1]]));
    let mut sim = run([both(&alpha, ca.trust()), both(&beta(), ca.trust())], |_, _| {});
    assert_up(&sim);
    let up = |sim: &Simulation| {
        sim.hosts[1].events.iter().filter(|(_, event)| matches!(event, Event::IkeUp { .. })).count()
    };
    let listing =
        |serial| TrustMaterial { revocation_lists: vec![ca.revocation_list(&[serial], 12)], ..ca.trust() };
    reconfigure(&mut sim, both(&beta(), listing(8)));
    assert_up(&sim);
    assert_eq!(up(&sim), 1, "nothing was made anew");
    reconfigure(&mut sim, both(&beta(), listing(7)));
    assert!(sim.hosts[1].dataplane.is_empty());
    assert!(cause(&sim, 1).contains("CN=alpha.example is revoked"), "{}", cause(&sim, 1));
}

#[test]
fn an_sa_ends_with_the_certificate_of_its_peer() {
    let ca = Ca::root("Root");
    let mut sim = run(good(&ca), |_, _| {});
    let now = sim.now;
    sim.hosts[1].engine.set_wall_clock(now, NOW + 86_400);
    sim.drain(1);
    assert_up(&sim);
    sim.hosts[1].engine.set_wall_clock(now, NOW + 365 * 86_400);
    sim.drain(1);
    sim.run(Duration::from_secs(5));
    assert!(sim.hosts[1].dataplane.is_empty());
    assert!(cause(&sim, 1).contains("the peer's certificate has expired"), "{}", cause(&sim, 1));
}

#[test]
fn a_changed_anchor_ends_what_the_old_one_let_in() {
    let (old, new) = (Ca::root("Old"), Ca::root("New"));
    let mut sim = run(good(&old), |_, _| {});
    assert_up(&sim);
    let leaf = old.leaf(&params(NAMES[1], &[NAMES[1]]));
    reconfigure(&mut sim, both(&leaf, new.trust()));
    assert!(sim.hosts[1].dataplane.is_empty());
    assert!(cause(&sim, 1).contains("CN=alpha.example is not issued by a trusted CA"), "{}", cause(&sim, 1));
}

/// DER of the subject, by way of the engine's own reading.
fn leaf_subject(leaf: &Leaf) -> Vec<u8> {
    let own = LocalCertificate::new(leaf.chain.clone(), leaf.key.serialized_der(), RsaPadding::Pss);
    own.map(|own| own.subject().to_vec()).unwrap_or_default()
}
