//! The index by addresses says what a walk over all connections says.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::sim::setup;

#[derive(Clone, Debug)]
enum Operation {
    Set { id: u64, local: u8, remote: u8 },
    Remove { id: u64 },
    Followed { id: u64, remote: u8 },
}

fn operation() -> impl Strategy<Value = Operation> {
    let (id, address) = (0..6u64, 0..4u8);
    prop_oneof![
        (id.clone(), address.clone(), address.clone()).prop_map(|(id, local, remote)| Operation::Set {
            id,
            local,
            remote
        }),
        id.clone().prop_map(|id| Operation::Remove { id }),
        (id, address).prop_map(|(id, remote)| Operation::Followed { id, remote }),
    ]
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn connection(id: u64, local: u8, remote: u8) -> Arc<Connection> {
    let (local, remote) = (address(local), address(remote));
    Arc::new(Connection { id: ConnectionId(id), local, remote, ..setup::connection(0, 0) })
}

proptest! {
    #[test]
    fn what_is_between_two_addresses_is_what_a_walk_finds(
        operations in proptest::collection::vec(operation(), 0..40),
    ) {
        let mut connections = Connections::default();
        // Kept by hand beside them: the configured addresses, and where the peer was followed to.
        let mut known: BTreeMap<u64, (u8, u8, Option<u8>)> = BTreeMap::new();
        for operation in operations {
            match operation {
                Operation::Set { id, local, remote } => {
                    let old = connections.set(&connection(id, local, remote));
                    let place = known.entry(id).or_insert((local, remote, None));
                    let before = old.map(|old| (old.local, old.remote));
                    prop_assert!(before.is_none_or(|old| old == (address(place.0), address(place.1))));
                    (place.0, place.1) = (local, remote);
                }
                Operation::Remove { id } => {
                    connections.remove(ConnectionId(id));
                    known.remove(&id);
                }
                Operation::Followed { id, remote } => {
                    connections.followed(ConnectionId(id), address(remote));
                    if let Some(place) = known.get_mut(&id) {
                        place.2 = Some(remote);
                    }
                }
            }
            for (local, remote) in (0..4).flat_map(|local| (0..4).map(move |remote| (local, remote))) {
                let walked: Vec<u64> = known
                    .iter()
                    .filter(|(_, place)| place.0 == local && (place.1 == remote || place.2 == Some(remote)))
                    .map(|(id, _)| *id)
                    .collect();
                let between = connections.between(address(local), address(remote));
                prop_assert_eq!(between.map(|(id, _)| id.0).collect::<Vec<_>>(), walked);
            }
            prop_assert!(connections.ids().into_iter().map(|id| id.0).eq(known.keys().copied()));
            let places: usize = known.values().map(|place| match place.2 {
                Some(seen) if seen != place.1 => 2,
                _ => 1,
            }).sum();
            prop_assert_eq!(connections.by_addresses.len(), places, "nothing is left behind");
        }
    }
}
