//! Another host, as far as networks go: a namespace with one cable to this one.

use std::process::Command;

use super::{World, ran};

/// Unplugged when the test ends.
pub struct OtherHost {
    name: String,
    /// This host's end of the cable, and the other's.
    pub here: String,
    pub there: String,
}

impl OtherHost {
    /// Why not, where no namespace can be made.
    pub fn plug() -> Result<Self, String> {
        // Of addresses that are for documents (RFC 5737), a net of four for each test that may run now.
        let (name, net) = (format!("pt{}", std::process::id()), std::process::id() % 64 * 4);
        let host = Self { here: format!("203.0.113.{}", net + 1), there: format!("203.0.113.{}", net + 2), name };
        let Self { name, here, there } = &host;
        let lines = [
            format!("netns add {name}"),
            format!("link add {name} type veth peer name eth0 netns {name}"),
            format!("addr add {here}/30 dev {name}"),
            format!("link set {name} up"),
            format!("-n {name} addr add {there}/30 dev eth0"),
            format!("-n {name} link set lo up"),
            format!("-n {name} link set eth0 up"),
        ];
        let made: Result<(), String> = lines.iter().try_for_each(|line| ip(line));
        made.map(|()| host)
    }

    /// A shell there.
    pub fn shell(&self, world: &World, line: &str) -> Command {
        let mut command = world.through("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).args(["sh", "-c", line]);
        command
    }
}

impl Drop for OtherHost {
    fn drop(&mut self) {
        let _ = ip(&format!("link del {}", self.name));
        let _ = ip(&format!("netns del {}", self.name));
    }
}

fn ip(line: &str) -> Result<(), String> {
    let done = ran(Command::new("ip").args(line.split(' ')));
    if done.code == Some(0) { Ok(()) } else { Err(format!("ip {line}: {}", done.err)) }
}
