use plfm_core::ids::OrgId;
use ulid::Ulid;

use super::*;

fn workload(org: u128) -> Workload {
    let workload = crate::mind::workload();
    let purpose = plfm_api::documents::Purpose::Sandbox { template: "base".to_owned(), from: None };
    Workload { org: OrgId::new(Ulid(org)), purpose, vars: [("KEY".to_owned(), "secret".to_owned())].into(), ..workload }
}

fn kind_of(org: u128) -> Kind {
    kind(&workload(org)).unwrap()
}

fn seed(number: u128) -> SnapshotId {
    SnapshotId::new(Ulid(number))
}

fn parked(number: u128) -> Parked {
    Parked { id: InstanceId::new(Ulid(number)), boot: BootId::new(Ulid(number)) }
}

/// With room for a hundred, each of 64 MiB and 8 of overhead.
fn park(most: usize) -> Park {
    let park = Park::new(most);
    park.set_room(Mebibytes(100 * 72));
    park
}

fn fills(park: &Park, now: Instant) -> usize {
    let made = (0..100).map_while(|number| park.order(now).map(|order| park.put(&order, parked(number))));
    made.filter(|put| *put).count()
}

#[test]
fn as_many_as_were_asked_for_lately_and_one_for_a_while() {
    let (park, now) = (park(4), Instant::now());
    assert!(park.order(now).is_none(), "nobody has asked");
    for _ in 0..3 {
        park.asked(kind_of(1), seed(1), &workload(1), now);
    }
    assert_eq!(fills(&park, now), 3);
    assert_eq!(park.surplus(now), []);
    assert_eq!(park.surplus(now + DEMAND).len(), 2);
    assert_eq!(park.surplus(now + LINGER).len(), 1);
    assert!(park.take(&kind_of(1)).is_none() && park.lot().bays.is_empty());
    for _ in 0..9 {
        park.asked(kind_of(1), seed(1), &workload(1), now);
    }
    assert_eq!(fills(&park, now), 4, "so many at most");
}

#[test]
fn nobodys_are_kept_apart_and_taken_once() {
    let (park, now) = (park(4), Instant::now());
    park.asked(kind_of(1), seed(1), &workload(1), now);
    let order = park.order(now).unwrap();
    assert!(order.workload.vars.is_empty(), "they are nobody's");
    assert!(park.put(&order, parked(1)));
    assert_eq!(park.take(&kind_of(2)), None);
    assert_eq!((park.take(&kind_of(1)), park.take(&kind_of(1))), (Some(parked(1)), None));
}

#[test]
fn what_is_planned_goes_first() {
    let (park, now) = (park(8), Instant::now());
    for _ in 0..8 {
        park.asked(kind_of(1), seed(1), &workload(1), now);
    }
    park.set_room(Mebibytes(6 * 72));
    assert_eq!(fills(&park, now), 3, "half of what is free");
    park.set_room(Mebibytes(2 * 72));
    assert_eq!(park.surplus(now).len(), 1);
    park.set_room(Mebibytes(71));
    assert_eq!(park.surplus(now).len(), 2);
}

#[test]
fn what_comes_of_a_former_seed_is_given_back() {
    let (park, now) = (park(4), Instant::now());
    park.asked(kind_of(1), seed(1), &workload(1), now);
    assert_eq!(fills(&park, now), 1);
    park.asked(kind_of(1), seed(1), &workload(1), now);
    let order = park.order(now).unwrap();
    assert_eq!(park.asked(kind_of(1), seed(2), &workload(1), now), [parked(0)]);
    assert!(!park.put(&order, parked(9)), "it is of the former one");
    park.gives_up(&park.order(now).unwrap());
    assert!(park.order(now).is_none(), "it is not tried again");
    park.asked(kind_of(1), seed(2), &workload(1), now);
    assert!(park.order(now).is_some(), "until somebody asks");
}

#[test]
fn one_fills_it_and_lets_others_go_first() {
    let (park, now) = (park(4), Instant::now());
    assert!(park.begins_filling() && !park.begins_filling());
    assert!(park.order(now).is_none() && park.begins_filling(), "it ended with nothing to do");
    assert_eq!(park.pause(now), None);
    park.asked(kind_of(1), seed(1), &workload(1), now);
    assert_eq!(park.pause(now + QUIET / 2), Some(QUIET / 2));
    assert_eq!(park.pause(now + QUIET), None);
    let order = park.order(now).unwrap();
    assert_eq!(park.close(), []);
    assert!(!park.put(&order, parked(1)) && park.order(now).is_none());
    park.open();
    park.asked(kind_of(1), seed(1), &workload(1), now);
    assert!(park.order(now).is_some());
}
