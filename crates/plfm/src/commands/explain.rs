//! `plfm explain`: why something is here, or not, and what to do.

use plfm_api::views::{Explanation, PlacesView, sandbox_id};
use plfm_core::ids::InstanceId;

use crate::cli::{ExplainArgs, NodeName};
use crate::context::Context;
use crate::printer::{Printer, Table};
use crate::{CliError, Exit};

/// Of a large fleet.
const NODES_SHOWN: usize = 20;

pub async fn run(args: ExplainArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let (client, org) = (context.client()?, context.org());
    let instance = |subject: &String| subject.parse().ok().or_else(|| sandbox_id(subject));
    let explanation = match args.subject.as_ref().and_then(instance) {
        Some(instance) => client.explain_instance(&org, instance).await?,
        None => client.explain_env(&org, &context.app(args.subject.as_ref())?, &context.env(&args.env)).await?,
    };
    show(&explanation, out)
}

pub async fn node(name: &NodeName, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    show(&context.client()?.explain_node(&name.node).await?, out)
}

fn show(explanation: &Explanation, out: &mut Printer) -> Result<Exit, CliError> {
    if out.is_json() {
        out.document("explanation", explanation)?;
    } else {
        out.bytes(text(explanation).as_bytes())?;
    }
    Ok(Exit::Success)
}

fn text(explanation: &Explanation) -> String {
    let lines =
        explanation.lines.iter().map(|line| format!("\n{}\n  why:  {}\n  next: {}\n", line.what, line.why, line.next));
    let subject = if explanation.answer.starts_with(&explanation.subject) {
        String::new()
    } else {
        format!("{}: ", explanation.subject)
    };
    let asked = explanation.places.iter().filter(|it| is_asked(explanation, it));
    let places = asked.map(|it| format!("\none more of {} on each node:\n{}", it.process, places(it)));
    format!("{subject}{}\n{}{}", explanation.answer, lines.collect::<String>(), places.collect::<String>())
}

/// Where one thing alone is explained, or where something waits for a place.
fn is_asked(explanation: &Explanation, places: &PlacesView) -> bool {
    explanation.subject.parse::<InstanceId>().is_ok() || places.waiting.is_some()
}

/// The best first; of many, those that come closest.
fn places(places: &PlacesView) -> String {
    let mut nodes: Vec<_> = places.nodes.iter().collect();
    nodes.sort_by_key(|it| (it.score.map_or(i64::MAX, |score| -score), it.short_mib.unwrap_or(u64::MAX), &it.node));
    let mut table = Table::new(["NODE", "SAYS"]);
    nodes.iter().take(NODES_SHOWN).for_each(|it| table.row([it.node.clone(), it.says.clone()]));
    let more = nodes.len().saturating_sub(NODES_SHOWN);
    let more = if more > 0 { format!("and {more} more; `--json` has them all\n") } else { String::new() };
    format!("{table}{more}")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use plfm_api::views::{ExplainLine, PlaceView};

    use super::*;

    #[test]
    fn what_why_and_next() {
        let line = ExplainLine {
            code: "no_nodes_active".to_owned(),
            what: "web waits for a place".to_owned(),
            why: "no node takes new work".to_owned(),
            next: "join a node: `plfm node token` prints the command".to_owned(),
        };
        let answer = "shop in dev is not as it should be: web 0 of 1 ready".to_owned();
        let node = |node: &str, score, short_mib, says: &str| PlaceView {
            node: node.to_owned(),
            verdict: String::new(),
            says: says.to_owned(),
            score,
            short_mib,
        };
        let nodes = vec![
            node("a", None, Some(64), "lacks 64Mi of memory"),
            node("b", None, None, "is offline"),
            node("c", Some(9), None, "has room, 0.009 points"),
        ];
        let places = vec![PlacesView { process: "web".to_owned(), waiting: Some("reserved".to_owned()), nodes }];
        let explanation = Explanation { subject: "shop in dev".to_owned(), answer, lines: vec![line], places };
        expect![[r#"
            shop in dev is not as it should be: web 0 of 1 ready

            web waits for a place
              why:  no node takes new work
              next: join a node: `plfm node token` prints the command

            one more of web on each node:
            NODE  SAYS
            c     has room, 0.009 points
            a     lacks 64Mi of memory
            b     is offline
        "#]]
        .assert_eq(&text(&explanation));
    }
}
