use clap::CommandFactory;
use expect_test::{Expect, expect, expect_file};

use super::*;

/// Wide enough for every line, so that the terminal of whoever runs this changes nothing.
const WIDTH: usize = 100;

#[test]
fn every_help_is_as_it_was() {
    let mut command = Cli::command().term_width(WIDTH);
    command.build();
    let mut text = String::new();
    help(&mut command, "plfm", &mut text);
    expect_file!["tests/help.txt"].assert_eq(&text);
}

fn help(command: &mut clap::Command, path: &str, text: &mut String) {
    *text += &format!("$ {path} --help\n{}\n", command.render_long_help());
    for child in command.get_subcommands_mut() {
        let path = format!("{path} {}", child.get_name());
        help(child, &path, text);
    }
}

#[test]
fn the_grammar_holds_together() {
    Cli::command().debug_assert();
}

fn refused(line: &str, expected: Expect) {
    let error = Cli::try_parse_from(line.split(' ')).expect_err("it is not in the grammar");
    expected.assert_eq(&error.render().to_string());
}

#[test]
fn what_is_not_in_the_grammar_is_said() {
    refused(
        "plfm deploy --expose 9000",
        expect![[r#"
            error: invalid value '9000' for '--expose <LISTEN=PROCESS:PORT>': write LISTEN=PROCESS:PORT, for example 9000=web:8080 or db.localhost=db:5433/tls

            For more information, try '--help'.
        "#]],
    );
    refused(
        "plfm exec shop",
        expect![[r#"
        error: the following required arguments were not provided:
          <CMD>...

        Usage: plfm exec <APP> -- <CMD>...

        For more information, try '--help'.
    "#]],
    );
    refused(
        "plfm logs --instance web",
        expect![[r#"
        error: invalid value 'web' for '--instance <ID>': no instance is called so: see `plfm instances` and `plfm sandbox ls`

        For more information, try '--help'.
    "#]],
    );
    refused(
        "plfm deplo",
        expect![[r#"
        error: unrecognized subcommand 'deplo'

          tip: a similar subcommand exists: 'deploy'

        Usage: plfm [OPTIONS] <COMMAND>

        For more information, try '--help'.
    "#]],
    );
}

#[test]
fn waiting_is_the_default_and_the_last_word_counts() {
    let waits = |line: &str| match Cli::try_parse_from(line.split(' ')).unwrap().command {
        Command::Deploy(args) => !args.wait.no_wait,
        other => panic!("{other:?}"),
    };
    assert!(waits("plfm deploy"));
    assert!(!waits("plfm deploy --no-wait"));
    assert!(waits("plfm deploy --no-wait --wait"));
    assert!(!waits("plfm deploy --wait --no-wait"));
}

#[test]
fn everything_after_two_dashes_is_the_remote_command() {
    let cli = Cli::try_parse_from(["plfm", "exec", "-ti", "shop", "--", "sh", "-c", "exit 3", "--json"]).unwrap();
    let Command::Exec(args) = cli.command else { panic!("it is exec") };
    assert_eq!((args.app.as_deref(), args.run.command.len(), cli.global.json), (Some("shop"), 4, false));
    assert!(args.run.tty && args.run.interactive);
}

#[test]
fn an_error_of_usage_is_a_document_where_one_is_wanted() {
    let error = Cli::try_parse_from(["plfm", "deploy", "--expose", "x"]).unwrap_err();
    expect![[r#"{"error":{"category":"invalid_usage","code":"invalid_usage","hint":"see `plfm --help`","message":"invalid value 'x' for '--expose <LISTEN=PROCESS:PORT>': write LISTEN=PROCESS:PORT, for example 9000=web:8080 or db.localhost=db:5433/tls","retryable":false},"schema":"plfm.error.v1"}"#]].assert_eq(&usage_document(&error));
    assert!(wants_json(&["--json".into()]));
    assert!(!wants_json(&["exec".into(), "--".into(), "--json".into()]), "that one is for the remote command");
}
