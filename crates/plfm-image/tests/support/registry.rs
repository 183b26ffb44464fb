//! A real registry on a free port of this machine, and one that misbehaves as it is told.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// `docker-registry`, ended with the test.
pub struct Registry {
    child: Child,
    pub host: String,
    _tmp: TempDir,
}

impl Registry {
    /// Without passwords, or with this file of them.
    pub fn start(passwords: Option<&str>) -> Self {
        let tmp = TempDir::new().unwrap();
        let auth = passwords.map_or(String::new(), |passwords| {
            let path = tmp.path().join("passwords");
            fs::write(&path, passwords).unwrap();
            format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", path.display())
        });
        // The port is the registry's own choice: it says which.
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:0'}}\n{auth}",
            tmp.path().display()
        );
        let path = tmp.path().join("config.yml");
        fs::write(&path, config).unwrap();
        let mut command = Command::new("docker-registry");
        let mut child = command.arg("serve").arg(path).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.contains("listening on"))
            .expect("it says where it listens");
        let host = line.split("listening on ").nth(1).unwrap().split(['"', ' ', ',']).next().unwrap().to_owned();
        // Nobody reads what it says from now on, but it must be able to say it.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, host, _tmp: tmp }
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Copies an image of a layout into the registry, as it is.
    pub fn push(&self, layout: &Path, tag: &str, name: &str, more: &[&str]) {
        let (from, to) = (format!("oci:{}:{tag}", layout.display()), format!("docker://{}/{name}", self.host));
        let fixed = ["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", "--quiet"];
        let arguments: Vec<&OsStr> =
            fixed.iter().chain(more).copied().chain([from.as_str(), to.as_str()]).map(OsStr::new).collect();
        super::run("skopeo", &arguments);
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What came in: the path with its query, and the headers in lower case.
pub struct Asked {
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// What goes out: the connection breaks after `cut` bytes of the body.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    pub cut: Option<usize>,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut: None }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// Answers by a function until the test ends.
pub async fn serve(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move { converse(stream, &*answer).await });
        }
    });
    host
}

/// One request per connection keeps the framing simple.
async fn converse(stream: TcpStream, answer: &(dyn Fn(&Asked) -> Answer + Send + Sync)) -> Option<()> {
    let mut stream = tokio::io::BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let path = lines.first()?.split(' ').nth(1)?.to_owned();
    let headers = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let Answer { status, headers, body, cut } = answer(&Asked { path, headers: headers.collect() });
    let mut head = format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close\r\n", body.len());
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    let stream = stream.get_mut();
    stream.write_all(format!("{head}\r\n").as_bytes()).await.ok()?;
    stream.write_all(&body[..cut.unwrap_or(body.len())]).await.ok()?;
    stream.shutdown().await.ok()
}
