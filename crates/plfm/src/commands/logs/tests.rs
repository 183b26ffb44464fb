use expect_test::{Expect, expect};
use plfm_core::units::Timestamp;
use ulid::Ulid;

use super::*;
use crate::printer::Memory;

fn line(stream: LogStream, text: &str) -> LogLine {
    let instance = InstanceId::new(Ulid::from_parts(1, 0xabcdef));
    LogLine { instance, at: Timestamp(5), stream, text: text.to_owned() }
}

fn check(several: bool, json: bool, expected: Expect) {
    let out = Memory::default();
    let mut printer = Printer::to(out.clone(), std::io::sink(), json);
    for stream in [LogStream::Stdout, LogStream::Stderr, LogStream::Console, LogStream::Node] {
        print(&line(stream, "hello"), several, &mut printer).unwrap();
    }
    expected.assert_eq(&out.text());
}

#[test]
fn one_instance_is_not_named_and_several_are() {
    check(
        false,
        false,
        expect![[r#"
        hello
        hello
        console | hello
        node | hello
    "#]],
    );
    check(
        true,
        false,
        expect![[r#"
        0aqkff | hello
        0aqkff | hello
        0aqkff console | hello
        0aqkff node | hello
    "#]],
    );
    check(
        false,
        true,
        expect![[r#"
        {"at":5,"instance":"inst_000000000100000000000AQKFF","schema":"plfm.log.v1","stream":"stdout","text":"hello","ts":"1970-01-01T00:00:00.005Z","type":"log"}
        {"at":5,"instance":"inst_000000000100000000000AQKFF","schema":"plfm.log.v1","stream":"stderr","text":"hello","ts":"1970-01-01T00:00:00.005Z","type":"log"}
        {"at":5,"instance":"inst_000000000100000000000AQKFF","schema":"plfm.log.v1","stream":"console","text":"hello","ts":"1970-01-01T00:00:00.005Z","type":"log"}
        {"at":5,"instance":"inst_000000000100000000000AQKFF","schema":"plfm.log.v1","stream":"node","text":"hello","ts":"1970-01-01T00:00:00.005Z","type":"log"}
    "#]],
    );
}
