use expect_test::expect;
use plfm_api::channel::Secret;
use serde_json::{Map, Value, json};

use super::request::{Logger, Metrics, VsockOverride};
use super::*;
use crate::microvm::vmm::{Ends, Nic, Volume};

mod real;

fn launch() -> Launch {
    Launch {
        name: "plfm-inst_X-boot_Y".to_owned(),
        accel: Accel::Kvm,
        memory: Mebibytes(256),
        vcpus: 2,
        begin: Begin::Kernel {
            kernel: jail::KERNEL.into(),
            initramfs: jail::INITRAMFS.into(),
            tsc_khz: 2_300_000,
            secret: Secret::new([0xab; Secret::BYTES]),
        },
        images: vec![-1, -1],
        disk: Some(-1),
        volumes: vec![Volume { fd: -1, read_only: false }, Volume { fd: -1, read_only: true }],
        net: Some(Nic { tap: -1, name: "tap0".to_owned(), mtu: 1420 }),
        ends: Ends { console: -1, control: -1, channel: -1 },
    }
}

fn saved() -> Launch {
    Launch { begin: Begin::Saved { memory: jail::MEMORY.into(), devices: -1 }, ..launch() }
}

fn calls(launch: &Launch) -> String {
    let line = |request: &Request| {
        let body = serde_json::to_string(request).unwrap();
        format!("{} {} {}\n", request.method(), request.path(), body.replace(&"ab".repeat(Secret::BYTES), "SECRET"))
    };
    requests(launch).iter().map(line).collect()
}

#[test]
fn a_machine_with_everything() {
    expect![[r#"
        PUT /machine-config {"vcpu_count":2,"mem_size_mib":256,"track_dirty_pages":false}
        PUT /boot-source {"kernel_image_path":"/kernel","initrd_path":"/initramfs","boot_args":"console=ttyS0 quiet reboot=t panic=-1 tsc_early_khz=2300000 tsc=reliable no_timer_check random.trust_cpu=on 8250.nr_uarts=1 cryptomgr.notests plfm.secret=SECRET reboot=k plfm.vsock=1024 plfm.disks=img0,img1,rw,vol0,vol1"}
        PUT /drives/img0 {"drive_id":"img0","path_on_host":"/img0","is_root_device":false,"is_read_only":true,"cache_type":"Unsafe","rate_limiter":{"bandwidth":{"size":200000000,"refill_time":1000}}}
        PUT /drives/img1 {"drive_id":"img1","path_on_host":"/img1","is_root_device":false,"is_read_only":true,"cache_type":"Unsafe","rate_limiter":{"bandwidth":{"size":200000000,"refill_time":1000}}}
        PUT /drives/rw {"drive_id":"rw","path_on_host":"/rw","is_root_device":false,"is_read_only":false,"cache_type":"Unsafe","rate_limiter":{"bandwidth":{"size":200000000,"refill_time":1000},"ops":{"size":10000,"refill_time":1000}}}
        PUT /drives/vol0 {"drive_id":"vol0","path_on_host":"/vol0","is_root_device":false,"is_read_only":false,"cache_type":"Writeback","rate_limiter":{"bandwidth":{"size":200000000,"refill_time":1000},"ops":{"size":10000,"refill_time":1000}}}
        PUT /drives/vol1 {"drive_id":"vol1","path_on_host":"/vol1","is_root_device":false,"is_read_only":true,"cache_type":"Writeback","rate_limiter":{"bandwidth":{"size":200000000,"refill_time":1000},"ops":{"size":10000,"refill_time":1000}}}
        PUT /network-interfaces/net {"iface_id":"net","host_dev_name":"tap0","guest_mac":"02:70:6c:66:6d:01","mtu":1420}
        PUT /vsock {"guest_cid":3,"uds_path":"/own/vsock"}
        PUT /entropy {}
        PUT /balloon {"amount_mib":0,"deflate_on_oom":true,"free_page_reporting":true}
        PUT /actions {"action_type":"InstanceStart"}
    "#]].assert_eq(&calls(&launch()));
}

#[test]
fn a_machine_that_goes_on() {
    expect![[r#"
        PUT /snapshot/load {"snapshot_path":"/devices","mem_backend":{"backend_type":"File","backend_path":"/memory"},"track_dirty_pages":true,"resume_vm":true,"network_overrides":[{"iface_id":"net","host_dev_name":"tap0"}]}
    "#]].assert_eq(&calls(&saved()));
}

#[test]
fn its_process_is_known_by_its_name() {
    let firecracker = Firecracker { program: "/usr/bin/firecracker".into(), version: "firecracker 1.17.0".into() };
    let Command { program, arg0, args } = firecracker.command(&launch());
    assert_eq!((program, arg0), (jail::PROGRAM.into(), "plfm-inst_X-boot_Y".into()));
    assert_eq!(args, ["--api-sock", "/own/api", "--level", "Error"]);
}

/// Version 1.17 as Firecracker publishes it (Apache-2.0).
const DESCRIPTION: &str = include_str!("tests/firecracker-1.17.yaml");

#[test]
fn every_request_is_as_the_description_says() {
    let description: Value = serde_saphyr::from_str(DESCRIPTION).unwrap();
    let both = [SnapshotType::Full, SnapshotType::Diff];
    let create = |snapshot_type| {
        Request::CreateSnapshot(CreateSnapshot {
            snapshot_type,
            snapshot_path: own(DEVICES),
            mem_file_path: own(MEMORY),
        })
    };
    let levels = [request::Level::Error, request::Level::Warning, request::Level::Info];
    let others = [
        Request::Action(Action::FlushMetrics),
        Request::Vm(Vm::Paused),
        Request::Vm(Vm::Resumed),
        Request::Metrics(Metrics { metrics_path: own("metrics") }),
        Request::LoadSnapshot(LoadSnapshot {
            vsock_override: Some(VsockOverride { uds_path: own(VSOCK) }),
            ..load(&saved())
        }),
        Request::Drive(Drive { cache_type: CacheType::Writeback, ..disk() }),
    ];
    let logger = levels.map(|level| Request::Logger(Logger { log_path: own("log"), level }));
    let all = [requests(&launch()), requests(&saved()), both.map(create).into(), logger.into(), others.into()].concat();
    for request in all {
        if let Err(wrong) = judge(&description, &request) {
            panic!("{} {}: {wrong}", request.method(), request.path());
        }
    }
}

fn load(launch: &Launch) -> LoadSnapshot {
    match requests(launch).remove(0) {
        Request::LoadSnapshot(load) => load,
        other => panic!("{other:?}"),
    }
}

/// The judge sees what it should.
#[test]
fn what_the_description_does_not_say_is_noticed() {
    let description: Value = serde_saphyr::from_str(DESCRIPTION).unwrap();
    let judged = |path, body| judge_body(&description, "put", path, body).is_err();
    assert!(!judged("/machine-config", json!({ "vcpu_count": 1, "mem_size_mib": 64 })));
    assert!(judged("/machine-config", json!({ "vcpu_count": 33, "mem_size_mib": 64 })));
    assert!(judged("/machine-config", json!({ "vcpu_count": 1 })));
    assert!(judged("/machine-config", json!({ "vcpu_count": 1, "mem_size_mib": 64, "colour": "red" })));
    assert!(judged("/drives/rw", json!({ "drive_id": "rw", "is_root_device": false, "cache_type": "Safe" })));
    assert!(judged("/nothing", json!({})));
}

fn judge(description: &Value, request: &Request) -> Result<(), String> {
    let method = request.method().as_str().to_lowercase();
    judge_body(description, &method, &request.path(), serde_json::to_value(request).unwrap())
}

fn judge_body(description: &Value, method: &str, path: &str, body: Value) -> Result<(), String> {
    let paths = description["paths"].as_object().unwrap();
    let found = paths.iter().find(|(template, _)| fits(template, path)).ok_or("there is no such path")?;
    let parameters = found.1[method]["parameters"].as_array().ok_or("there is no such method")?;
    let schema = parameters.iter().find(|it| it["in"] == "body").ok_or("it takes no body")?["schema"].clone();
    let mut schema = json!({ "allOf": [schema], "definitions": closed(&description["definitions"]) });
    schema["$schema"] = "http://json-schema.org/draft-04/schema#".into();
    jsonschema::validate(&schema, &body).map_err(|wrong| wrong.to_string())
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len() && template.iter().zip(path).all(|(one, other)| one.starts_with('{') || *one == other)
}

/// The description leaves open what else an object may have; Firecracker refuses what it does not know.
fn closed(definitions: &Value) -> Value {
    let close = |(name, definition): (&String, &Value)| {
        let mut definition = definition.clone();
        if definition.get("properties").is_some() {
            definition["additionalProperties"] = false.into();
        }
        (name.clone(), definition)
    };
    Value::Object(definitions.as_object().unwrap().iter().map(close).collect::<Map<_, _>>())
}
