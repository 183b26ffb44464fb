//! Forks of a machine that works: each draws other numbers, has another name, and is told so. Nothing runs before it is.

use std::collections::BTreeSet;
use std::sync::Arc;

use plfm_api::guest::RefreshRequest;
use plfm_core::ids::InstanceId;
use plfm_runtime::Runtime;
use plfm_runtime::microvm::MicroVmRuntime;

use crate::house::*;

const FORKS: u128 = 8;
/// Draws from the kernel without an end, and looks around between.
const WORK: &str = "mkdir -p /etc/plfm/refresh.d; echo 00000000000000000000000000000000 > /etc/machine-id
printf '#!/bin/busybox sh\\necho hook $(cat /run/plfm/generation) >> /hooked\\n' > /etc/plfm/refresh.d/10-note
chmod 755 /etc/plfm/refresh.d/10-note
while :; do echo draw $(cat /proc/sys/kernel/random/uuid)
echo self $(cat /run/plfm/generation) $(hostname) $(cat /etc/machine-id) $(cat /hooked 2>/dev/null); done";

fn refresh(id: InstanceId, number: u128) -> RefreshRequest {
    RefreshRequest {
        instance_id: id.to_string(),
        boot_id: boot(number).to_string(),
        hostname: format!("fork-{number}"),
        realtime_ns: now_ns(),
        entropy: entropy(number as u8),
        generation: 1,
        ..Default::default()
    }
}

fn draws(lines: &[String]) -> BTreeSet<&str> {
    lines.iter().filter_map(|line| line.strip_prefix("draw ")).filter(|draw| draw.len() == 36).collect()
}

async fn fork(runtime: &Arc<MicroVmRuntime>, house: &House, number: u128) -> InstanceId {
    let spec = house.spec(100 + number);
    runtime.restore(&spec, snapshot(1), boot(number), None).await.unwrap();
    spec.id
}

#[tokio::test]
async fn forks_of_a_working_machine_share_nothing_they_should_not() {
    let Some(house) = House::build("forks_of_a_working_machine_share_nothing_they_should_not") else { return };
    let runtime = Arc::new(house.open().await);
    let first = house.spec(100);
    runtime.create(&first).await.unwrap();
    runtime.start(first.id, boot(1), None).await.unwrap();
    asked(&runtime, first.id).await;
    let client_of_first = client(&runtime, first.id);
    client_of_first.configure(configuration(first.id, WORK)).await.unwrap();
    let before = said(&client_of_first, |lines| draws(lines).len() >= 3).await;

    client_of_first.quiesce().await.unwrap();
    assert!(client_of_first.refresh(RefreshRequest::default()).await.is_err(), "half an identity is none");
    runtime.snapshot(first.id, snapshot(1), false).await.unwrap();
    asked(&runtime, first.id).await;
    client_of_first.thaw(Default::default()).await.unwrap();
    let known: BTreeSet<_> = draws(&before).into_iter().map(str::to_owned).collect();
    let after = said(&client_of_first, |lines| draws(lines).len() >= known.len() + 20).await;
    assert!(after.iter().any(|line| line.starts_with("self 0 first ")), "{after:?}");

    let mut all: Vec<BTreeSet<String>> = vec![draws(&after).into_iter().map(str::to_owned).collect()];
    let mut names = BTreeSet::new();
    for number in 2..2 + FORKS {
        let id = fork(&runtime, &house, number).await;
        let client = client(&runtime, id);
        let rests = said(&client, |lines| draws(lines).len() >= known.len()).await;
        assert!(draws(&rests).len() <= known.len() + 2, "nothing has run since the snapshot");
        client.refresh(refresh(id, number)).await.unwrap();
        assert_eq!(client.thaw(Default::default()).await.unwrap(), [""; 0]);
        let told = asked(&runtime, id).await;
        assert_eq!((told.instance_id, told.boot_id), (id.to_string(), boot(number).to_string()));
        let name = format!("self 1 fork-{number} ");
        let hooked = |line: &String| line.starts_with(&name) && line.ends_with(" hook 1");
        let lines = said(&client, |lines| lines.iter().any(hooked) && draws(lines).len() >= known.len() + 20).await;
        let line = lines.iter().find(|line| hooked(line)).unwrap();
        let machine = line.split(' ').nth(3).unwrap().to_owned();
        assert!(machine.len() == 32 && names.insert(machine), "each has a machine id of its own: {line}");
        all.push(draws(&lines).into_iter().map(str::to_owned).collect());
        if number == 2 {
            client.quiesce().await.unwrap();
            assert_eq!(client.thaw(Default::default()).await.unwrap(), [""; 0]);
            let later = said(&client, |later| later.len() >= lines.len() + 20).await;
            assert!(later.iter().all(|line| !line.contains("hook 1 hook")), "it learns of its twins once: {later:?}");
        }
        runtime.destroy(id).await.unwrap();
    }
    for (index, one) in all.iter().enumerate() {
        for other in &all[index + 1..] {
            // What was drawn before the fork is the memory of all of them; one draw may not have been said by then.
            let both: Vec<_> = one.intersection(other).filter(|draw| !known.contains(*draw)).collect();
            assert!(both.len() <= 1, "drawn twice: {both:?}");
        }
    }
    runtime.destroy(first.id).await.unwrap();
    runtime.forget(snapshot(1)).await.unwrap();
}
