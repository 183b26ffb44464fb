use super::*;

#[test]
fn references_print_as_they_were_written() {
    let digest = format!("sha256:{}", "0a".repeat(32));
    for text in [
        "web",
        "library/web:1",
        "web:v1.2_3-RC",
        "localhost/web",
        "localhost:5000/web",
        "registry.example.com/a/b__c/d.e-f--g:latest",
        "[::1]:5000/web:1",
        &format!("oci:/srv/images/web:v1@{digest}"),
        &format!("web@{digest}"),
        &format!("example.com:443/web:v1@{digest}"),
        "oci:/srv/images/web",
        "oci:/srv/images/web:v1",
        "oci-archive:/srv/web.tar:v1",
        "oci-archive:/srv/my images/web.tar",
    ] {
        assert_eq!(image_reference(text).map(|reference| reference.to_string()).as_deref(), Ok(text));
    }
}

#[test]
fn what_is_no_reference_is_refused() {
    let long_tag = format!("web:{}", "a".repeat(129));
    let long_name = "a/".repeat(128) + "a";
    for text in [
        "",
        ":",
        "/",
        "web:",
        "web:-a",
        "Web",
        "a//b",
        "/web",
        "web/",
        "a..b",
        "a___b",
        "-a",
        "a-",
        "web web",
        "wéb",
        "example.com:0/web",
        "example.com:99999/web",
        "-x.com/web",
        "[::1/web",
        "[zz]:1/web",
        "https://example.com/web",
        "example.com/",
        "Registry/web",
        "a.io:+5/web",
        "oci:web",
        "oci:/",
        "oci:",
        "oci:/a:b:c",
        "oci-archive:x.tar",
        "docker:web/",
        &long_tag,
        &long_name,
    ] {
        assert_eq!(image_reference(text).map_err(|refusal| refusal.code), Err(Code::ImageRef), "{text}");
    }
    for text in ["web@", "web@sha256:", "web@sha512:00", "web@sha256:ABC"] {
        assert_eq!(image_reference(text).map_err(|refusal| refusal.code), Err(Code::ImageDigest), "{text}");
    }
}

#[test]
fn a_first_part_with_a_dot_or_port_is_the_registry() {
    let parts = |text: &str| match image_reference(text).unwrap().place {
        ImagePlace::Registry { host, name } => (host, name),
        other => panic!("{other:?}"),
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(parts("a/b:1"), (None, "a/b".to_owned()));
    assert_eq!(parts("a.io/b"), (some("a.io"), "b".to_owned()));
    assert_eq!(parts("a:5000/b"), (some("a:5000"), "b".to_owned()));
    assert_eq!(parts("localhost/b"), (some("localhost"), "b".to_owned()));
}
