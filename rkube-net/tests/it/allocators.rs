//! The pure allocators against plain sets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proptest::prelude::*;
use rkube_net::ipam::{
    AddressPool, AllocateError, Cidr, NodeAddresses, NodeRanges, Outcome, RangeConfig, RangeSet,
};

#[derive(Clone, Debug)]
enum Step {
    Allocate(u8),
    Release(u8),
    Reserve(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..20).prop_map(Step::Allocate),
        3 => (0_u8..20).prop_map(Step::Release),
        1 => (0_u8..20, 0_u8..18).prop_map(|(owner, offset)| Step::Reserve(owner, offset)),
    ]
}

proptest! {
    #[test]
    fn no_address_has_two_owners(steps in proptest::collection::vec(step(), 0..200)) {
        let range: Cidr = "10.0.0.0/28".parse().unwrap();
        let usable: BTreeSet<IpAddr> = (2..15).map(|offset| range.nth(offset).unwrap()).collect();
        let mut pool = AddressPool::new(range);
        let mut model: BTreeMap<String, IpAddr> = BTreeMap::new();
        // How long each has been free: never given out counts as longest.
        let mut clock = 0_u32;
        let mut freed: BTreeMap<IpAddr, u32> = BTreeMap::new();
        for step in steps {
            clock += 1;
            match step {
                Step::Allocate(owner) => {
                    let owner = owner.to_string();
                    let given = pool.allocate(&owner);
                    match model.get(&owner) {
                        Some(known) => prop_assert_eq!(given, Some(*known)),
                        None => {
                            let taken: BTreeSet<IpAddr> = model.values().copied().collect();
                            let free: BTreeSet<IpAddr> = usable.difference(&taken).copied().collect();
                            prop_assert_eq!(given.is_none(), free.is_empty());
                            if let Some(ip) = given {
                                prop_assert!(free.contains(&ip));
                                let age = |ip: &IpAddr| freed.get(ip).copied().unwrap_or(0);
                                let oldest = free.iter().map(age).min().unwrap();
                                prop_assert_eq!(age(&ip), oldest, "the longest free comes first");
                                model.insert(owner, ip);
                            }
                        }
                    }
                }
                Step::Release(owner) => {
                    let released = pool.release(&owner.to_string());
                    prop_assert_eq!(released, model.remove(&owner.to_string()));
                    released.into_iter().for_each(|ip| { freed.insert(ip, clock); });
                }
                Step::Reserve(owner, offset) => {
                    let owner = owner.to_string();
                    // Out of the range too.
                    let ip: IpAddr = std::net::Ipv4Addr::new(10, 0, 0, offset).into();
                    let holder = model.iter().find(|(_, held)| **held == ip).map(|(name, _)| name.clone());
                    let fits = usable.contains(&ip) && holder.as_ref().is_none_or(|holder| *holder == owner);
                    prop_assert_eq!(pool.reserve(&owner, ip), fits);
                    if fits && model.get(&owner) != Some(&ip) {
                        if let Some(old) = model.insert(owner, ip) {
                            freed.insert(old, clock);
                        }
                        // The order among addresses that were skipped is not promised: forget it.
                        freed.remove(&ip);
                        return Ok(());
                    }
                }
            }
            prop_assert_eq!(pool.len(), model.len());
            let unique: BTreeSet<&IpAddr> = model.values().collect();
            prop_assert_eq!(unique.len(), model.len());
        }
    }

    /// As above with reservations anywhere, without the order.
    #[test]
    fn reservations_never_make_two_owners(steps in proptest::collection::vec(step(), 0..200)) {
        let range: Cidr = "10.0.0.0/28".parse().unwrap();
        let mut pool = AddressPool::new(range);
        let mut model: BTreeMap<String, IpAddr> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Allocate(owner) => {
                    let before = model.len();
                    match pool.allocate(&owner.to_string()) {
                        Some(ip) => {
                            let others = model.iter().filter(|(name, _)| **name != owner.to_string());
                            prop_assert!(others.into_iter().all(|(_, held)| *held != ip));
                            model.insert(owner.to_string(), ip);
                        }
                        None => prop_assert_eq!(before, 13),
                    }
                }
                Step::Release(owner) => {
                    prop_assert_eq!(pool.release(&owner.to_string()), model.remove(&owner.to_string()));
                }
                Step::Reserve(owner, offset) => {
                    let ip: IpAddr = std::net::Ipv4Addr::new(10, 0, 0, offset).into();
                    if pool.reserve(&owner.to_string(), ip) {
                        model.insert(owner.to_string(), ip);
                    }
                }
            }
            prop_assert_eq!(pool.len(), model.len());
        }
    }

    #[test]
    fn ranges_are_given_once_and_come_back(
        steps in proptest::collection::vec((any::<bool>(), 0_usize..64), 0..200),
        occupied in proptest::collection::vec(0_u128..64, 0..8),
    ) {
        let cluster: Cidr = "10.0.0.0/18".parse().unwrap();
        let mut set = RangeSet::new(cluster, 24).unwrap();
        let mut model: BTreeSet<Cidr> = BTreeSet::new();
        for index in occupied {
            let part = cluster.subnet(24, index).unwrap();
            set.occupy(&part);
            model.insert(part);
        }
        for (give, which) in steps {
            if give {
                match set.allocate() {
                    Some(part) => prop_assert!(cluster.overlaps(&part) && model.insert(part)),
                    None => prop_assert_eq!(model.len(), 64),
                }
            } else if let Some(part) = model.iter().nth(which).copied() {
                prop_assert!(set.release(&part));
                model.remove(&part);
            }
        }
    }

    #[test]
    fn no_two_nodes_have_a_range_in_common(steps in proptest::collection::vec((0_u8..3, 0_u8..24, 0_u8..3), 0..200)) {
        let config: RangeConfig = serde_json::from_value(serde_json::json!({
            "ranges": [
                {"cidr": "10.0.0.0/20", "nodePrefix": 24},
                {"cidr": "fd00::/60", "nodePrefix": 64},
            ],
            "excluded": ["10.0.4.0/22"],
        })).unwrap();
        let mut ranges = NodeRanges::new(&config).unwrap();
        let mut model: BTreeMap<u8, Vec<Cidr>> = BTreeMap::new();
        let mut uids: BTreeMap<u8, u8> = BTreeMap::new();
        for (what, node, uid) in steps {
            let name = node.to_string();
            if what == 0 {
                prop_assert_eq!(ranges.remove(&name), model.remove(&node).is_some());
                continue;
            }
            if uids.insert(node, uid) != Some(uid) {
                // Another node of this name.
                model.remove(&node);
            }
            match ranges.node(&name, &uid.to_string(), &[]) {
                Outcome::Assigned(given) => {
                    prop_assert_eq!(given.len(), 2);
                    if let Some(known) = model.get(&node) {
                        prop_assert_eq!(known, &given);
                    }
                    let taken = model.iter().filter(|(other, _)| **other != node).flat_map(|(_, all)| all);
                    let excluded: Cidr = "10.0.4.0/22".parse().unwrap();
                    for other in taken.chain([&excluded]) {
                        prop_assert!(given.iter().all(|range| !range.overlaps(other)), "{:?} {}", given, other);
                    }
                    prop_assert_eq!(ranges.node(&name, &uid.to_string(), &given), Outcome::Known);
                    model.insert(node, given);
                }
                Outcome::Exhausted => prop_assert_eq!(model.len(), 12),
                Outcome::Known => prop_assert!(false, "it showed none"),
            }
        }
    }
}

#[test]
fn sizes_for_many_nodes_are_really_there() {
    for nodes in [1, 256, 257, 5_000, 61_440, 100_000, 122_880, 200_000] {
        let mut ranges = NodeRanges::new(&RangeConfig::for_nodes(nodes)).unwrap();
        let services: Cidr = "10.96.0.0/12".parse().unwrap();
        for node in 0..nodes {
            match ranges.node(&node.to_string(), "u", &[]) {
                Outcome::Assigned(given) => assert!(!given[0].overlaps(&services)),
                other => panic!("{nodes} nodes, node {node}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_range_too_small_has_no_address() {
    for range in ["10.0.0.0/32", "10.0.0.0/31", "10.0.0.0/30", "fd00::/127"] {
        let mut pool = AddressPool::new(range.parse().unwrap());
        let expected = usize::from(range.ends_with("/30"));
        assert_eq!((0..5).filter_map(|owner| pool.allocate(&owner.to_string())).count(), expected, "{range}");
    }
    assert!(RangeSet::new("10.0.0.0/16".parse().unwrap(), 15).is_err());
    assert!(RangeSet::new("10.0.0.0/16".parse().unwrap(), 33).is_err());
    assert!(RangeSet::new("fd00::/8".parse().unwrap(), 64).is_err());
}

#[test]
fn pods_get_one_address_of_each_range() {
    let addresses = NodeAddresses::default();
    assert!(matches!(addresses.allocate("n", "a"), Err(AllocateError::NotReady { .. })));
    // Found running before the node's ranges were seen.
    assert!(addresses.reserve("n", "old", &["10.0.0.2".parse().unwrap()]));
    let ranges: Vec<Cidr> = vec!["10.0.0.0/30".parse().unwrap(), "fd00::/64".parse().unwrap()];
    addresses.set_ranges("n", ranges.clone());
    assert!(matches!(addresses.allocate("n", "a"), Err(AllocateError::Exhausted { .. })));
    assert_eq!(addresses.taken("n"), 1, "what was given of the other range is given back");
    addresses.release("n", "old");
    let given = addresses.allocate("n", "a").unwrap();
    assert_eq!(given.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.2", "fd00::2"]);
    // The same ranges again change nothing.
    addresses.set_ranges("n", ranges);
    assert_eq!(addresses.allocate("n", "a").unwrap(), given);
    assert!(!addresses.reserve("n", "b", &["10.0.0.2".parse().unwrap()]));
    addresses.remove_node("n");
    assert!(matches!(addresses.allocate("n", "a"), Err(AllocateError::NotReady { .. })));
}
