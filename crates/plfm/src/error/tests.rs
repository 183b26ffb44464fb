use expect_test::{Expect, expect};
use http::StatusCode;
use plfm_api::problem::Problem;
use plfm_core::ids::RequestId;
use plfm_core::manifest::Manifest;
use plfm_core::reason::Reason;
use ulid::Ulid;

use super::*;
use crate::printer::Memory;

/// The exit code and what a person reads.
fn check(error: CliError, expected: Expect) {
    let (out, err) = (Memory::default(), Memory::default());
    let exit = error.report(&mut Printer::to(out.clone(), err.clone(), false));
    assert_eq!(out.text(), "", "standard output is for data");
    expected.assert_eq(&format!("exit {}\n{}", exit.code(), err.text()));
}

fn check_json(error: CliError, expected: Expect) {
    let (out, err) = (Memory::default(), Memory::default());
    error.report(&mut Printer::to(out.clone(), err.clone(), true));
    assert_eq!(err.text(), "", "one document and nothing else");
    expected.assert_eq(&out.text());
}

fn problem(status: u16) -> Box<Problem> {
    let status = StatusCode::from_u16(status).unwrap();
    let problem = Problem::new(status, "port_in_use", "port 9000 of the edge is taken by another route");
    let request_id = RequestId::new(Ulid::from_parts(1, 1));
    Box::new(Problem { request_id, retryable: false, ..problem.hint("choose another port") })
}

fn deploy() -> DeployId {
    DeployId::new(Ulid::from_parts(1, 2))
}

fn instance() -> InstanceId {
    InstanceId::new(Ulid::from_parts(1, 3))
}

fn wrong_manifest() -> CliError {
    let errors = Manifest::parse(b"schema_version = \"v1\"\n[processes.web]\nresources.memory = 12\n").unwrap_err();
    CliError::Manifest { path: "plfm.toml".to_owned(), errors }
}

fn failed() -> CliError {
    let failure = Failure::new(Reason::OomKilled, "the process was killed at 64 MiB");
    CliError::DeployFailed { deploy: deploy(), app: "shop".to_owned(), env: "dev".to_owned(), failure }
}

#[test]
fn what_is_missing_is_said_with_what_to_type() {
    check(
        CliError::NoCluster,
        expect![[r#"
        exit 2
        error: there is no cluster to talk to

        hint: start one here with `plfm dev`, or set PLFM_API_URL, PLFM_CA_FILE and PLFM_TOKEN
    "#]],
    );
    check(
        CliError::NoApp,
        expect![[r#"
        exit 2
        error: the app is not named

        hint: name it in the command, or write `name` under `[app]` in plfm.toml
    "#]],
    );
    check(
        CliError::NoEnv,
        expect![[r#"
        exit 2
        error: the environment is not named

        hint: name it, for example with `--env dev`
    "#]],
    );
    check(
        CliError::NoManifest { here: "/srv/shop".into() },
        expect![[r#"
        exit 2
        error: there is no plfm.toml in /srv/shop or above

        hint: change to the directory of the app, or name the file with --manifest
    "#]],
    );
    check(
        CliError::NoImage,
        expect![[r#"
        exit 2
        error: neither the manifest nor --image names an image

        hint: write `ref` under `[image]` in plfm.toml, or give --image
    "#]],
    );
    check(
        CliError::Profile(ProfileError::NoSuchProfile("prod".to_owned())),
        expect![[r#"
        exit 2
        error: there is no profile `prod`

        hint: leave --profile out, or write the profile with `plfm dev`
    "#]],
    );
    let source = io::Error::from(io::ErrorKind::NotFound);
    check(
        CliError::File { what: "token", path: "/d/token".into(), source },
        expect![[r#"
        exit 2
        error: cannot read the token /d/token
          cause: entity not found

        hint: start the cluster with `plfm dev`, which writes it, or choose another --profile
    "#]],
    );
}

#[test]
fn a_manifest_shows_where_it_is_wrong() {
    check(
        wrong_manifest(),
        expect![[r#"
        exit 2
        error[E_TYPE]: expected a string, found integer
          --> plfm.toml:3 processes.web.resources.memory
          hint: put the value in quotes
    "#]],
    );
    check_json(
        wrong_manifest(),
        expect![[r#"
        {
          "error": {
            "category": "invalid_usage",
            "code": "invalid_manifest",
            "details": {
              "fields": [
                {
                  "code": "E_TYPE",
                  "column": 20,
                  "hint": "put the value in quotes",
                  "line": 3,
                  "message": "expected a string, found integer",
                  "path": "processes.web.resources.memory"
                }
              ]
            },
            "hint": "",
            "message": "the manifest plfm.toml is wrong in one place",
            "request_id": null,
            "retryable": false
          },
          "schema": "plfm.error.v1"
        }
    "#]],
    );
}

#[test]
fn what_the_api_says_is_passed_on() {
    check(
        CliError::Api(ApiError::Problem(problem(409))),
        expect![[r#"
        exit 5
        error: port 9000 of the edge is taken by another route

        hint: choose another port
        request: req_00000000010000000000000001
    "#]],
    );
    check_json(
        CliError::Api(ApiError::Problem(problem(409))),
        expect![[r#"
        {
          "error": {
            "category": "conflict",
            "code": "port_in_use",
            "details": {
              "fields": []
            },
            "hint": "choose another port",
            "message": "port 9000 of the edge is taken by another route",
            "request_id": "req_00000000010000000000000001",
            "retryable": false
          },
          "schema": "plfm.error.v1"
        }
    "#]],
    );
}

#[test]
fn a_deploy_that_failed_and_one_that_takes_long() {
    check(
        failed(),
        expect![[r#"
        exit 1
        error: dep_00000000010000000000000002 of shop to dev has failed: oom_killed: the process was killed at 64 MiB

        hint: raise `resources.memory`; see `plfm explain shop`
    "#]],
    );
    check_json(
        failed(),
        expect![[r#"
        {
          "error": {
            "category": "failure",
            "code": "oom_killed",
            "details": {
              "app": "shop",
              "env": "dev",
              "failure": {
                "detail": "the process was killed at 64 MiB",
                "reason": "oom_killed"
              },
              "resource": {
                "id": "dep_00000000010000000000000002",
                "type": "deploy"
              }
            },
            "hint": "raise `resources.memory`; see `plfm explain shop`",
            "message": "dep_00000000010000000000000002 of shop to dev has failed: oom_killed: the process was killed at 64 MiB",
            "request_id": null,
            "retryable": false
          },
          "schema": "plfm.error.v1"
        }
    "#]],
    );
    check(
        CliError::WaitTimeout { deploy: deploy(), app: "shop".to_owned() },
        expect![[r#"
        exit 6
        error: dep_00000000010000000000000002 is not done yet; that need not mean that it has failed

        hint: see `plfm explain shop`, and watch with `plfm status shop`
    "#]],
    );
    check(
        CliError::Superseded { deploy: deploy(), by: "a later one".to_owned() },
        expect![[r#"
        exit 5
        error: dep_00000000010000000000000002 was superseded by a later one

        hint: see the newer deploy with `plfm status`
    "#]],
    );
}

#[test]
fn exec_keeps_its_own_numbers_before_the_process_starts() {
    let closed = |code| ExecError::Closed { code, reason: String::new() };
    let cases = [
        (ExecError::Problem(problem(401)), 10),
        (ExecError::Problem(problem(404)), 20),
        (ExecError::Problem(problem(409)), 20),
        (ExecError::Problem(problem(429)), 50),
        (ExecError::Problem(problem(500)), 40),
        (ExecError::Silent { at: "https://a".to_owned() }, 30),
        (closed(close::FORBIDDEN), 10),
        (closed(close::NOT_RUNNING), 20),
        (closed(close::GUEST_UNAVAILABLE), 40),
        (closed(close::LIMIT), 50),
    ];
    for (source, code) in cases {
        let error = CliError::Exec { instance: instance(), source };
        assert_eq!(error.exit().code(), code, "{error:?}");
    }
    let refused = CliError::ExecRefused {
        instance: instance(),
        code: "command_not_started".to_owned(),
        message: "no such file: bash".to_owned(),
    };
    check(
        refused,
        expect![[r#"
        exit 40
        error: inst_00000000010000000000000003 does not start the command: no such file: bash

        hint: check the command: it has to be a program that the image holds, and small images hold no shell
    "#]],
    );
    check(
        CliError::NoReadyInstance { app: "shop".to_owned(), env: "dev".to_owned() },
        expect![[r#"
        exit 20
        error: no instance of shop in dev is ready

        hint: see `plfm explain shop`
    "#]],
    );
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let gone = CliError::Output(io::Error::from(io::ErrorKind::BrokenPipe));
    let err = Memory::default();
    assert_eq!(gone.report(&mut Printer::to(io::sink(), err.clone(), false)), Exit::Success);
    assert_eq!(err.text(), "");
}

#[test]
fn statuses_have_the_numbers_of_the_table() {
    let codes =
        [400, 401, 403, 404, 409, 412, 413, 422, 429, 500, 502, 503, 504].map(|status| Exit::of_status(status).code());
    assert_eq!(codes, [2, 3, 3, 4, 5, 5, 2, 2, 6, 7, 6, 6, 6]);
}
