use super::*;

fn profile(dir: &Path) -> Profile {
    fs::write(dir.join("ca.pem"), "CA").unwrap();
    fs::write(dir.join("token"), "secret\n").unwrap();
    Profile {
        api_url: "https://127.0.0.1:7443".to_owned(),
        ca_file: dir.join("ca.pem"),
        token_file: dir.join("token"),
        org: Some("saved".to_owned()),
        env: Some("dev".to_owned()),
    }
}

fn context(dir: &Path, global: Global, profile: Option<Profile>) -> Context {
    Context { global, profile, here: dir.to_owned() }
}

#[test]
fn a_profile_says_all_that_flags_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(dir.path(), Global::default(), Some(profile(dir.path())));
    let target = context.target().unwrap();
    assert_eq!((target.api_url.as_str(), target.ca_pem.as_str()), ("https://127.0.0.1:7443", "CA"));
    assert_eq!((context.org().as_str(), context.env(&EnvArgs::default()).as_str()), ("saved", "dev"));
}

#[test]
fn flags_come_before_the_profile() {
    let dir = tempfile::tempdir().unwrap();
    let global =
        Global { api_url: Some("https://other:1".to_owned()), org: Some("flag".to_owned()), ..Global::default() };
    let context = context(dir.path(), global, Some(profile(dir.path())));
    assert_eq!(context.target().unwrap().api_url, "https://other:1");
    assert_eq!(context.org(), "flag");
    assert_eq!(context.env(&EnvArgs { env: Some("prod".to_owned()) }), "prod");
}

#[test]
fn nothing_is_changed_in_an_env_that_nobody_chose() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(dir.path(), Global::default(), None);
    assert_eq!(context.env(&EnvArgs::default()), DEFAULT_ENV);
    assert!(matches!(context.explicit_env(&EnvArgs::default()), Err(CliError::NoEnv)));
    assert!(matches!(context.target(), Err(CliError::NoCluster)));
}

#[test]
fn the_app_is_the_manifests_where_no_one_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let context = context(dir.path(), Global::default(), None);
    assert!(matches!(context.app(None), Err(CliError::NoApp)));
    let manifest = "schema_version = \"v1\"\n[app]\nname = \"shop\"\n[processes.web]\nresources.memory = \"64Mi\"\n";
    fs::write(dir.path().join(manifest::FILE_NAME), manifest).unwrap();
    assert_eq!(context.app(None).unwrap(), "shop");
    assert_eq!(context.app(Some(&"other".to_owned())).unwrap(), "other");
}
