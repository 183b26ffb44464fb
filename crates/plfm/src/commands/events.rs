//! `plfm events`: what has happened, in order.

use futures::TryStreamExt;
use plfm_api::views::EventLine;
use plfm_core::units::{Seq, Timestamp};
use serde_json::Value;

use crate::cli::EventsArgs;
use crate::context::Context;
use crate::printer::Printer;
use crate::{CliError, Exit};

pub async fn run(args: EventsArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let events = context.client()?.events(Seq(args.after), args.follow).await?;
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.try_next().await? {
        if out.is_json() {
            out.item("event", at(&event), &event)?;
        } else {
            out.line(text(&event))?;
        }
    }
    Ok(Exit::Success)
}

fn at(event: &EventLine) -> Timestamp {
    Timestamp(event.envelope.get("at").and_then(Value::as_u64).unwrap_or_default())
}

/// Objects in a body that are too long for a line; `--json` has them.
const LEFT_OUT: [&str; 2] = ["manifest", "image.platforms"];

fn text(event: &EventLine) -> String {
    let seq = event.envelope.get("seq").and_then(Value::as_u64).unwrap_or_default();
    let mut words = String::new();
    for (name, value) in event.envelope.get("body").and_then(Value::as_object).into_iter().flatten() {
        add(&mut words, name, value);
    }
    format!("{seq:>6} {} {}{words}", at(event), event.kind)
}

/// ` name=value`, and ` outer.inner=value` for what is in an object.
fn add(words: &mut String, name: &str, value: &Value) {
    match value {
        Value::String(text) if text.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            *words += &format!(" {name}={text:?}")
        }
        Value::String(text) => *words += &format!(" {name}={text}"),
        Value::Number(_) | Value::Bool(_) => *words += &format!(" {name}={value}"),
        Value::Object(inner) if !LEFT_OUT.contains(&name) => {
            inner.iter().for_each(|(inner, value)| add(words, &format!("{name}.{inner}"), value));
        }
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_string) => {
            let items: Vec<_> = items.iter().filter_map(Value::as_str).collect();
            add(words, name, &Value::String(items.join(",")));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn one_line_each() {
        let envelope = json!({ "seq": 12, "at": 1_767_225_599_999_u64, "body": { "org": "org_1", "name": "the default", "manifest": { "a": 1 }, "degraded": ["disk_pressure"], "image": { "platforms": { "amd64": "sha256:1" } }, "status": { "phase": "ready", "failure": null } } });
        expect![[r#"    12 2025-12-31T23:59:59.999Z org.created degraded=disk_pressure name="the default" org=org_1 status.phase=ready"#]]
            .assert_eq(&text(&EventLine { kind: "org.created".to_owned(), envelope }));
    }
}
