use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn digest() -> Digest {
    DIGEST.parse().unwrap()
}

fn parse(text: &str) -> Result<Document, ImageError> {
    Document::parse(&digest(), text.replace("$", DIGEST).as_bytes())
}

#[test]
fn documents() {
    let blob = r#"{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"$","size":7}"#;
    let manifest = format!(r#"{{"schemaVersion":2,"config":{blob},"layers":[{blob}]}}"#);
    let Ok(Document::Manifest(found)) = parse(&manifest) else { panic!("it is one") };
    assert_eq!((found.layers.len(), found.layers[0].size, found.config.digest), (1, 7, digest()));
    let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"digest":"$","annotations":null}]}"#;
    assert!(matches!(parse(index), Ok(Document::Index(entries)) if entries.len() == 1));
    for (text, why) in [
        ("", "EOF while parsing"),
        ("[]", "invalid"),
        (r#"{"schemaVersion":1,"fsLayers":[]}"#, "only schema version 2 is known"),
        (r#"{"schemaVersion":2}"#, "it is neither a manifest nor an index"),
        (r#"{"schemaVersion":2,"mediaType":"text/html","manifests":[]}"#, "its media type is none of an image"),
        (
            &format!(r#"{{"schemaVersion":2,"config":{blob},"layers":[],"manifests":[]}}"#),
            "it is neither a manifest nor an index",
        ),
        (&manifest.replace("$", "sha256:00"), "64 lower-case hex digits"),
        (&manifest.replace('7', "-7"), "invalid value"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let manifest = manifest.replace("$", DIGEST);
    for cut in 0..manifest.len() {
        assert!(Document::parse(&digest(), &manifest.as_bytes()[..cut]).is_err(), "{cut}");
    }
}

#[test]
fn configurations() {
    let parse = |text: &str, layers| Config::parse(&digest(), text.replace("$", DIGEST).as_bytes(), layers);
    let least = r#"{"os":"linux","architecture":"arm64","variant":"","rootfs":{"type":"layers","diff_ids":["$"]}}"#;
    let config = parse(least, 1).unwrap();
    assert_eq!((config.platform, config.image), (Platform::linux("arm64"), ImageConfig::default()));
    let nulls = least.replace(
        "\"rootfs\"",
        r#""config":{"Entrypoint":null,"Env":null,"ExposedPorts":null,"StopSignal":"","User":null},"rootfs""#,
    );
    assert_eq!(parse(&nulls, 1).unwrap().image, ImageConfig::default());
    assert!(parse(least, 2).unwrap_err().to_string().ends_with("it has 1 diff ids for 2 layers"));
    assert!(parse(r#"{"os":"linux"}"#, 0).is_err());
}
