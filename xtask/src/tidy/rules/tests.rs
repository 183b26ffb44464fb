use super::*;

/// The lines that break a rule.
fn lines(path: &str, text: &str) -> Vec<usize> {
    check(path, text).into_iter().map(|finding| finding.line).collect()
}

fn source(body: &str) -> String {
    format!("//! What it is for.\n{body}\n")
}

#[test]
fn each_rule_finds_its_line() {
    let long = "x".repeat(LINE_CHARS_MAX + 1);
    let cases = [
        (source(&format!("// {long}")), 2),
        (source("let a = b.unwrap();"), 2),
        (source(concat!("// TO", "DO: more")), 2),
        (source(concat!("to", "do!()")), 2),
        (source("let a = b; "), 2),
        ("fn main() {}\n".to_owned(), 1),
        ("//! A".to_owned(), 0),
        (source(&"\n".repeat(FILE_LINES_MAX)), 0),
    ];
    for (text, line) in cases {
        assert_eq!(lines("crates/a/src/lib.rs", &text), [line], "{text}");
    }
}

#[test]
fn tests_may_unwrap() {
    let text = source("fn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() { c.unwrap() }\n}");
    assert_eq!(lines("crates/a/src/lib.rs", &text), [0; 0]);
    assert_eq!(lines("crates/a/src/b/tests.rs", "c.unwrap();\n"), [0; 0]);
    assert_eq!(lines("crates/a/tests/b.rs", "c.unwrap();\n"), [0; 0]);
}

#[test]
fn the_limits_themselves_are_allowed() {
    let text = source(&format!("// {}", "ä".repeat(LINE_CHARS_MAX - 3)));
    assert_eq!(lines("crates/a/src/lib.rs", &text), [0; 0]);
    assert_eq!(lines("crates/a/src/lib.rs", &source(&"\n".repeat(FILE_LINES_MAX - 2))), [0; 0]);
}
