//! `plfm explain`: why something is here, or not, and what to do.

use plfm_api::views::{Explanation, sandbox_id};

use crate::cli::{ExplainArgs, NodeName};
use crate::context::Context;
use crate::printer::Printer;
use crate::{CliError, Exit};

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
    format!("{subject}{}\n{}", explanation.answer, lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use plfm_api::views::ExplainLine;

    use super::*;

    #[test]
    fn what_why_and_next() {
        let line = ExplainLine {
            what: "web waits for a place".to_owned(),
            why: "no node takes new work".to_owned(),
            next: "join a node: `plfm node token` prints the command".to_owned(),
        };
        let answer = "shop in dev is not as it should be: web 0 of 1 ready".to_owned();
        let explanation = Explanation { subject: "shop in dev".to_owned(), answer, lines: vec![line] };
        expect![[r#"
            shop in dev is not as it should be: web 0 of 1 ready

            web waits for a place
              why:  no node takes new work
              next: join a node: `plfm node token` prints the command
        "#]]
        .assert_eq(&text(&explanation));
    }
}
