//! A real registry, and a gate before it that can be shut in the middle of an answer.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::{Layout, Process, World, free_port, ran};

/// `docker-registry`, ended with the test. Killed, it can be started again with all that it held.
pub struct Registry {
    host: String,
    process: Option<Process>,
    dir: PathBuf,
}

impl Registry {
    pub fn start(world: &World) -> Self {
        let host = format!("{}:{}", world.host, free_port());
        let mut registry = Self { host, process: None, dir: world.path("registry") };
        fs::create_dir(&registry.dir).unwrap();
        registry.resume();
        registry
    }

    pub fn resume(&mut self) {
        let storage = self.dir.display();
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {storage}}}}}\n\
             http: {{addr: '{}'}}\n",
            self.host()
        );
        let path = self.dir.join("config.yml");
        fs::write(&path, config).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(path);
        self.process = Some(Process::start(command, &self.dir.join("log"), "listening on"));
    }

    pub fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    pub fn host(&self) -> String {
        self.host.clone()
    }

    /// Copies an image of a layout; its layers are compressed on the way, as most are. Answers with its reference.
    pub fn push(&self, layout: &Layout, tag: &str) -> String {
        let reference = format!("{}/{tag}:v1", self.host());
        let pushed = ran(Command::new("skopeo")
            .args(["copy", "--quiet", "--dest-tls-verify=false", &layout.reference(tag)])
            .arg(format!("docker://{reference}")));
        assert_eq!(pushed.code, Some(0), "{}", pushed.err);
        reference
    }

    /// The file of its largest blob, which is a layer.
    pub fn largest_blob(&self) -> PathBuf {
        let blobs = super::left::files(&self.dir, "data").into_iter();
        blobs.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap()
    }
}

/// Passes connections on until so many bytes have come back; then it holds them, until it is opened: that cuts them.
pub struct Gate {
    pub host: String,
    flow: Arc<Flow>,
}

struct Flow {
    left: Mutex<usize>,
    opened: Condvar,
}

impl Gate {
    pub fn before(registry: &Registry, bytes: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (host, target) = (listener.local_addr().unwrap().to_string(), registry.host());
        let flow = Arc::new(Flow { left: Mutex::new(bytes), opened: Condvar::new() });
        let passing = flow.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client whose registry is not there finds its connection closed.
                let registry = TcpStream::connect(&target);
                drop(registry.map(|registry| pass(client, registry, passing.clone())));
            }
        });
        Self { host, flow }
    }

    pub fn is_shut(&self) -> bool {
        *self.flow.left.lock().unwrap() == 0
    }

    pub fn open(&self) {
        *self.flow.left.lock().unwrap() = usize::MAX;
        self.flow.opened.notify_all();
    }
}

fn pass(client: TcpStream, registry: TcpStream, flow: Arc<Flow>) {
    let (mut asked, mut to) = (client.try_clone().unwrap(), registry.try_clone().unwrap());
    thread::spawn(move || {
        let _ = std::io::copy(&mut asked, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    thread::spawn(move || {
        let _ = answer(&registry, &client, &flow);
        let _ = client.shutdown(Shutdown::Both);
    });
}

fn answer(mut registry: &TcpStream, mut client: &TcpStream, flow: &Flow) -> io::Result<()> {
    let mut chunk = [0; 16 * 1024];
    loop {
        let bytes = registry.read(&mut chunk)?;
        let mut left = flow.left.lock().unwrap();
        if bytes == 0 || *left == 0 {
            drop(flow.opened.wait_while(left, |left| *left == 0).unwrap());
            return Ok(());
        }
        *left = left.saturating_sub(bytes);
        drop(left);
        client.write_all(&chunk[..bytes])?;
    }
}
