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

/// The values of the body that are words or numbers; what is nested is for `--json`.
fn text(event: &EventLine) -> String {
    let seq = event.envelope.get("seq").and_then(Value::as_u64).unwrap_or_default();
    let body = event.envelope.get("body").and_then(Value::as_object).into_iter().flatten();
    let words = body.filter_map(|(name, value)| match value {
        Value::String(text) => Some(format!(" {name}={text}")),
        Value::Number(number) => Some(format!(" {name}={number}")),
        _ => None,
    });
    format!("{seq:>6} {} {}{}", at(event), event.kind, words.collect::<String>())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;

    #[test]
    fn one_line_each() {
        let envelope = json!({ "seq": 12, "at": 1_767_225_599_999_u64, "body": { "org": "org_1", "name": "default", "more": {} } });
        expect!["    12 2025-12-31T23:59:59.999Z org.created name=default org=org_1"]
            .assert_eq(&text(&EventLine { kind: "org.created".to_owned(), envelope }));
    }
}
