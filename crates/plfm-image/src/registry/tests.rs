use super::*;

#[test]
fn mirrors_come_first_and_the_host_last() {
    let registries = Registries {
        mirrors: [("docker.io".to_owned(), vec!["10.0.0.1:5000".to_owned(), "mirror.example/hub/".to_owned()])].into(),
        insecure: ["10.0.0.1:5000".to_owned()].into(),
        ..Registries::default()
    };
    let endpoints = registries.endpoints("docker.io", "library/alpine");
    let shown: Vec<_> = endpoints.iter().map(|e| (e.host.as_str(), e.repository.as_str(), e.plain)).collect();
    assert_eq!(
        shown,
        [
            ("10.0.0.1:5000", "library/alpine", true),
            ("mirror.example", "hub/library/alpine", false),
            ("registry-1.docker.io", "library/alpine", false),
        ]
    );
}

#[test]
fn plain_http_is_for_this_machine_and_for_the_list() {
    let registries = Registries { insecure: ["dev.example:5000".to_owned()].into(), ..Registries::default() };
    for (host, plain) in [
        ("localhost", true),
        ("localhost:5000", true),
        ("127.0.0.1:5000", true),
        ("127.1.2.3", true),
        ("[::1]:5000", true),
        ("dev.example:5000", true),
        ("dev.example", false),
        ("dev.example:5001", false),
        ("localhost.example", false),
        ("10.0.0.1:5000", false),
    ] {
        assert_eq!(registries.is_plain(host), plain, "{host}");
    }
}

#[test]
fn a_password_does_not_show() {
    let credentials = Credentials { username: "ci".to_owned(), password: "hunter2".to_owned() };
    assert!(!format!("{credentials:?}").contains("hunter2"));
}
