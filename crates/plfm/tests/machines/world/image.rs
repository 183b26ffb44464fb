//! Images written by hand, byte for byte: what a tool would refuse to make can be made too.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use plfm_core::digest::Digest;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// A layer that is being written.
pub struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    pub fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub fn dir(self, path: &str) -> Self {
        self.entry(path, tar::EntryType::Directory, 0o755, &[])
    }

    pub fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(path, tar::EntryType::Regular, 0o644, content)
    }

    /// Of someone's own.
    pub fn home(self, path: &str, uid: u64) -> Self {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        header.set_uid(uid);
        header.set_gid(uid);
        self.append(path, header, &[])
    }

    /// A program of this machine, which needs no library.
    pub fn program(self, path: &str, name: &str) -> Self {
        let bytes = fs::read(super::find(name).unwrap()).unwrap();
        self.entry(path, tar::EntryType::Regular, 0o755, &bytes)
    }

    /// A file of this machine, at the same place.
    pub fn of_host(self, path: &str) -> Self {
        let content = fs::read(path).unwrap();
        let mut header = header(tar::EntryType::Regular, 0o755, content.len());
        // What Python has compiled is of a file of this time.
        header.set_mtime(fs::metadata(path).unwrap().mtime() as u64);
        self.append(path.trim_start_matches('/'), header, &content)
    }

    pub fn script(self, path: &str, text: &str) -> Self {
        self.entry(path, tar::EntryType::Regular, 0o755, format!("#!/bin/sh\n{text}\n").as_bytes())
    }

    /// Busybox goes by the name it is called by.
    pub fn busybox(self, path: &str) -> Self {
        self.program(path, "busybox")
    }

    pub fn link(mut self, path: &str, to: &str) -> Self {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        self.0.append_link(&mut header, path, to).unwrap();
        self
    }

    /// Hides a file or directory of the layers below.
    pub fn without(self, path: &str) -> Self {
        let (dir, name) = path.rsplit_once('/').unwrap();
        self.file(&format!("{dir}/.wh.{name}"), &[])
    }

    /// Hides all that the layers below have in a directory.
    pub fn afresh(self, dir: &str) -> Self {
        self.dir(dir).file(&format!("{dir}/.wh..wh..opq"), &[])
    }

    fn entry(self, path: &str, kind: tar::EntryType, mode: u32, content: &[u8]) -> Self {
        self.append(path, header(kind, mode, content.len()), content)
    }

    fn append(mut self, path: &str, mut header: tar::Header, content: &[u8]) -> Self {
        self.0.append_data(&mut header, path, content).unwrap();
        self
    }
}

fn header(kind: tar::EntryType, mode: u32, bytes: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes as u64);
    header
}

/// Bytes that do not compress, the same each time.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next()).take(bytes).collect()
}

pub struct Image {
    pub architecture: &'static str,
    pub user: &'static str,
    pub entrypoint: &'static [&'static str],
    pub layers: Vec<Layer>,
}

impl Image {
    /// Serves `/www` on port 8080, and has a shell. `/cgi-bin/slow` says in the log that it is asked, and takes its time.
    pub fn web() -> Self {
        let tools = Layer::new().dir("usr").dir("usr/bin").link("bin", "usr/bin").busybox("usr/bin/busybox");
        let tools = tools.link("usr/bin/sh", "busybox");
        let www = Layer::new().dir("www").file("www/index.html", b"it works\n").dir("www/cgi-bin");
        let slow = "echo asked >&2; busybox sleep 2; printf 'Content-Type: text/plain\\r\\n\\r\\nto the end\\n'";
        let www = www.script("www/cgi-bin/slow", slow);
        let entrypoint = &["/bin/sh", "-c", "echo up; exec busybox httpd -f -p [::]:8080 -h /www"];
        Self { architecture: "amd64", user: "1000:1000", entrypoint, layers: vec![tools, www] }
    }
}

/// What programs in sandboxes are made of.
const TOOLS: [&str; 9] = ["sh", "cat", "head", "sleep", "id", "mkdir", "ls", "uname", "sync"];

impl Image {
    /// A place to work in: a shell, a few tools, and a user with a home.
    pub fn sandbox() -> Self {
        let layer = Layer::new().dir("bin").dir("etc").dir("home").dir("root").dir("tmp").home("home/user", 1000);
        let layer = layer.busybox("bin/busybox").program("bin/bash", "bash-static");
        let layer = TOOLS.iter().fold(layer, |layer, tool| layer.link(&format!("bin/{tool}"), "busybox"));
        let passwd = b"root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000:user:/home/user:/bin/bash\n";
        let layer = layer.file("etc/passwd", passwd).file("etc/group", b"root:x:0:\nuser:x:1000:\n");
        Self { architecture: "amd64", user: "user", entrypoint: &["/bin/false"], layers: vec![layer] }
    }
}

/// A directory with images, by tag.
pub struct Layout(PathBuf);

impl Layout {
    pub fn new(dir: PathBuf) -> Self {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(dir.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        Self(dir)
    }

    /// How a manifest of ours names the image.
    pub fn reference(&self, tag: &str) -> String {
        format!("oci:{}:{tag}", self.0.display())
    }

    pub fn add(&self, tag: &str, image: Image) -> String {
        self.add_with(tag, image, |_| {})
    }

    /// With a manifest that says what it is made to say.
    pub fn add_with(&self, tag: &str, image: Image, lie: impl FnOnce(&mut Value)) -> String {
        let Image { architecture, user, entrypoint, layers } = image;
        let layers: Vec<_> = layers.into_iter().map(|layer| self.blob(TAR, &layer.0.into_inner().unwrap())).collect();
        let diff_ids: Vec<_> = layers.iter().map(|layer| layer["digest"].clone()).collect();
        let config = json!({
            "os": "linux", "architecture": architecture, "rootfs": { "type": "layers", "diff_ids": diff_ids },
            "config": { "User": user, "Entrypoint": entrypoint, "Env": ["PATH=/bin"] },
        });
        let config = self.blob(CONFIG, config.to_string().as_bytes());
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        lie(&mut manifest);
        let mut image = self.blob(MANIFEST, manifest.to_string().as_bytes());
        image["platform"] = json!({ "os": "linux", "architecture": architecture });
        image["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        self.enlist(image);
        self.reference(tag)
    }

    fn enlist(&self, image: Value) {
        let path = self.0.join("index.json");
        let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        index["manifests"].as_array_mut().unwrap().push(image);
        fs::write(path, index.to_string()).unwrap();
    }

    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.0.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }
}
