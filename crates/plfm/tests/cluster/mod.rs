//! A server in this process, and the program run against it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use plfm_api::views::ClosedPorts;
use plfm_core::digest::Digest;
use plfm_server::{Config, Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::watch;

pub struct Cluster {
    dir: TempDir,
    environment: Vec<(&'static str, String)>,
    /// What the edge would tell the server.
    pub closed: watch::Sender<ClosedPorts>,
    _stop: watch::Sender<bool>,
}

/// How the program has ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Cluster {
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (closed, closed_ports) = watch::channel(Default::default());
        let config = Config {
            data: dir.path().join("server"),
            listen: "127.0.0.1:0".parse().unwrap(),
            hosts: Vec::new(),
            domain: "localhost".to_owned(),
            https_port: 443,
            closed_ports,
            registries: Default::default(),
            local_images: true,
        };
        let server = Server::build(config).await.unwrap();
        let data = dir.path().join("server");
        let environment = vec![
            ("PLFM_API_URL", format!("https://{}", server.address().unwrap())),
            ("PLFM_CA_FILE", data.join("ca.pem").display().to_string()),
            ("PLFM_TOKEN", fs::read_to_string(data.join("admin.token")).unwrap().trim().to_owned()),
        ];
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(server.run(stopped));
        fs::create_dir(dir.path().join("work")).unwrap();
        Self { dir, environment, closed, _stop: stop }
    }

    pub async fn plfm(&self, args: &[&str]) -> Ran {
        plfm(args, &self.environment, &self.work()).await
    }

    /// The same with one variable changed.
    pub fn with(&self, name: &'static str, value: &str) -> Changed<'_> {
        let mut environment = self.environment.clone();
        environment.retain(|(known, _)| *known != name);
        environment.push((name, value.to_owned()));
        Changed { cluster: self, environment }
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.work().join(name), text).unwrap();
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// The reference of an image of this machine: documents only, which is all that a deploy looks at.
    pub fn image(&self) -> String {
        let layout = self.dir.path().join("image");
        fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        let blob = |document: Value| {
            let bytes = serde_json::to_vec(&document).unwrap();
            let digest = Digest::of(&bytes);
            fs::write(layout.join("blobs/sha256").join(digest.hex()), &bytes).unwrap();
            (digest, bytes.len())
        };
        let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
        let (config, config_bytes) = blob(config);
        let (manifest, manifest_bytes) = blob(json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_bytes },
            "layers": [],
        }));
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": manifest,
                "size": manifest_bytes,
                "platform": { "architecture": "amd64", "os": "linux" },
            }],
        });
        fs::write(layout.join("index.json"), index.to_string()).unwrap();
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        format!("oci:{}", layout.display())
    }
}

pub struct Changed<'a> {
    cluster: &'a Cluster,
    environment: Vec<(&'static str, String)>,
}

impl Changed<'_> {
    pub async fn plfm(&self, args: &[&str]) -> Ran {
        plfm(args, &self.environment, &self.cluster.work()).await
    }
}

/// With these variables and no others of ours.
pub async fn plfm(args: &[&str], environment: &[(&'static str, String)], dir: &Path) -> Ran {
    let program = Command::new(env!("CARGO_BIN_EXE_plfm"))
        .args(args)
        .env_clear()
        .env("XDG_CONFIG_HOME", dir.join("config"))
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        .current_dir(dir)
        .stdin(Stdio::null())
        .output();
    let output = program.await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

impl Ran {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Without what is different each time.
    pub fn masked_err(&self) -> String {
        let word = |word: &str| match word.split_once('_') {
            Some((kind @ ("dep" | "rel" | "req"), rest)) if rest.len() >= 26 => format!("{kind}_…{}", &rest[26..]),
            _ if word.starts_with("https://127.0.0.1:") => {
                "https://API".to_owned() + if word.ends_with('\n') { "\n" } else { " " }
            }
            _ if word.starts_with("sha256:") => "sha256:…\n".to_owned(),
            _ => word.to_owned(),
        };
        self.err.split_inclusive([' ', '\n', ',']).map(word).collect()
    }
}
