//! Circles, and how long they close a tunnel.

use shm::records::Address;

use super::*;

fn route(prefix: &str, kind: u8, target: u32) -> (IpNet, RouteRecord) {
    let net: IpNet = prefix.parse().unwrap();
    let record = RouteRecord {
        present: 1,
        kind,
        family: 4,
        prefix_len: net.prefix_len(),
        has_gateway: 0,
        reserved: [0; 3],
        target,
        reserved2: 0,
        prefix: net.addr().into(),
        gateway: Address::default(),
    };
    (net, record)
}

fn ends(ends: &[(u32, [u8; 4])]) -> FarEnds {
    ends.iter().map(|(slot, address)| (*slot, IpAddr::from(*address))).collect()
}

#[test]
fn a_destination_behind_its_own_tunnel_is_recursive_until_a_longer_prefix_leads_out() {
    let far = ends(&[(3, [198, 51, 100, 2])]);
    let mut routes =
        BTreeMap::from([route("0.0.0.0/0", route::PORT, 0), route("198.51.100.0/24", route::TUNNEL, 3)]);
    assert_eq!(recursive(&far, &routes), BTreeMap::from([(3, vec![3])]));
    routes.extend([route("198.51.100.2/32", route::PORT, 0)]);
    assert_eq!(recursive(&far, &routes), BTreeMap::new());
}

#[test]
fn a_circle_of_two_is_recursive_and_a_tunnel_in_a_tunnel_is_not() {
    let far = ends(&[(1, [10, 0, 0, 1]), (2, [10, 0, 0, 2]), (5, [10, 0, 0, 5])]);
    let circle = BTreeMap::from([
        route("10.0.0.1/32", route::TUNNEL, 2),
        route("10.0.0.2/32", route::TUNNEL, 1),
        // It leads into the circle, but not through itself.
        route("10.0.0.5/32", route::TUNNEL, 1),
    ]);
    assert_eq!(recursive(&far, &circle), BTreeMap::from([(1, vec![2, 1]), (2, vec![1, 2])]));
    let nested =
        BTreeMap::from([route("10.0.0.1/32", route::TUNNEL, 2), route("10.0.0.2/32", route::PORT, 0)]);
    assert_eq!(recursive(&far, &nested), BTreeMap::new());
}

fn circles(names: &[&str]) -> BTreeMap<String, Vec<String>> {
    names.iter().map(|name| ((*name).to_owned(), vec![(*name).to_owned()])).collect()
}

fn is_closed(guard: &Guard) -> bool {
    guard.closed().count() == 1
}

#[test]
fn a_tunnel_opens_after_its_hold_and_waits_twice_as_long_the_next_time() {
    let mut guard = Guard::default();
    let mut now = Instant::now();
    let mut hold = FIRST_HOLD;
    for _ in 0..4 {
        assert!(guard.observe(&circles(&["gre1"]), now));
        assert!(!guard.observe(&circles(&["gre1"]), now), "closed already");
        assert_eq!(guard.wake_at(), Some(now + hold));
        assert!(!guard.observe(&circles(&[]), now + hold - Duration::from_millis(1)));
        assert!(is_closed(&guard));
        now += hold;
        assert!(guard.observe(&circles(&[]), now));
        assert!(!is_closed(&guard));
        hold *= 2;
    }
}

#[test]
fn the_hold_counts_from_the_last_time_that_the_routes_were_recursive() {
    let mut guard = Guard::default();
    let start = Instant::now();
    guard.observe(&circles(&["gre1"]), start);
    guard.observe(&circles(&["gre1"]), start + FIRST_HOLD * 3);
    assert!(!guard.observe(&circles(&[]), start + FIRST_HOLD * 3 + FIRST_HOLD / 2));
    assert!(is_closed(&guard));
}

#[test]
fn what_behaved_for_long_enough_is_forgiven() {
    let mut guard = Guard::default();
    let start = Instant::now();
    guard.observe(&circles(&["gre1"]), start);
    guard.observe(&circles(&[]), start + FIRST_HOLD);
    guard.observe(&circles(&[]), start + FORGIVEN_AFTER);
    let later = start + FORGIVEN_AFTER * 2;
    guard.observe(&circles(&["gre1"]), later);
    assert_eq!(guard.wake_at(), Some(later + FIRST_HOLD));
}

#[test]
fn the_cause_names_the_way() {
    let mut guard = Guard::default();
    let way = vec!["gre2".to_owned(), "gre1".to_owned()];
    guard.observe(&BTreeMap::from([("gre1".to_owned(), way)]), Instant::now());
    assert_eq!(
        guard.closed().next().unwrap(),
        (
            "gre1",
            "recursive routing: the route to its destination leads through gre2 and so through the tunnel itself"
        )
    );
}
