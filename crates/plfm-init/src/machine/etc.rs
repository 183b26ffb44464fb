//! Names and resolvers in the image's `/etc`: images for containers come without, because container engines write them.

use std::fs;
use std::io;
use std::path::Path;

use super::BootError;
use crate::daemon::Config;

pub fn write(config: &Config) -> Result<(), BootError> {
    write_in(Path::new("/etc"), config).map_err(BootError::of("write names to /etc of the image"))
}

fn write_in(etc: &Path, config: &Config) -> io::Result<()> {
    fs::create_dir_all(etc)?;
    fill(&etc.join("hosts"), &hosts(config))?;
    if !config.hostname.is_empty() {
        fill(&etc.join("hostname"), &format!("{}\n", config.hostname))?;
    }
    if !config.net.dns.is_empty() {
        replace(&etc.join("resolv.conf"), &resolvers(config))?;
    }
    Ok(())
}

fn hosts(config: &Config) -> String {
    let mut hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    if !config.hostname.is_empty() {
        config.net.addresses().for_each(|address| hosts.push_str(&format!("{address}\t{}\n", config.hostname)));
    }
    hosts
}

fn resolvers(config: &Config) -> String {
    config.net.dns.iter().map(|server| format!("nameserver {server}\n")).collect()
}

/// What the image says itself stands.
fn fill(path: &Path, text: &str) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(file) if file.len() > 0 => Ok(()),
        _ => replace(path, text),
    }
}

/// Whoever reads finds the one or the other. A link goes: it leads to where some service would write.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("plfm-new");
    fs::write(&fresh, text)?;
    fs::rename(fresh, path)
}

/// In the files that the daemon itself, or the image, has written the former name to.
pub fn rename(etc: &Path, former: &str, name: &str) -> io::Result<()> {
    for file in ["hostname", "hosts"].map(|file| etc.join(file)) {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        let renamed = with_word(&text, former, name);
        if renamed != text {
            replace(&file, &renamed)?;
        }
    }
    Ok(())
}

/// The text with each word that is `former` as `word`; longer words that contain it stay.
fn with_word(text: &str, former: &str, word: &str) -> String {
    let parts = text.split_inclusive(char::is_whitespace).map(|part| match part.strip_prefix(former) {
        Some(rest) if rest.chars().all(char::is_whitespace) => format!("{word}{rest}"),
        _ => part.to_owned(),
    });
    if former.is_empty() { text.to_owned() } else { parts.collect() }
}

#[cfg(test)]
mod tests {
    use plfm_api::guest::{ConfigureRequest, Network};

    use super::*;

    fn config() -> Config {
        let network =
            Network { ipv6: "fd00::2".into(), ipv6_prefix: 64, dns: vec!["fd00::53".into()], ..Default::default() };
        let request = ConfigureRequest {
            instance_id: "inst_1".into(),
            boot_id: "boot_1".into(),
            hostname: "web-1".into(),
            network: network.into(),
            ..Default::default()
        };
        Config::read(request, false).unwrap()
    }

    #[test]
    fn an_image_without_names_gets_them() {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        write_in(&etc, &config()).unwrap();
        let read = |name| fs::read_to_string(etc.join(name)).unwrap();
        assert_eq!(read("hosts"), "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfd00::2\tweb-1\n");
        assert_eq!((read("hostname"), read("resolv.conf")), ("web-1\n".into(), "nameserver fd00::53\n".into()));
    }

    #[test]
    fn its_own_names_stand_and_dangling_links_do_not() {
        let etc = tempfile::tempdir().unwrap();
        fs::write(etc.path().join("hosts"), "10.0.0.1 mine\n").unwrap();
        fs::write(etc.path().join("hostname"), "").unwrap();
        std::os::unix::fs::symlink("../run/nowhere", etc.path().join("resolv.conf")).unwrap();
        write_in(etc.path(), &config()).unwrap();
        let read = |name| fs::read_to_string(etc.path().join(name)).unwrap();
        assert_eq!((read("hosts"), read("hostname")), ("10.0.0.1 mine\n".into(), "web-1\n".into()));
        assert_eq!(read("resolv.conf"), "nameserver fd00::53\n");
    }

    #[test]
    fn a_name_is_changed_where_it_stands_alone() {
        let etc = tempfile::tempdir().unwrap();
        let path = |name: &str| etc.path().join(name);
        fs::write(path("hosts"), "127.0.0.1 localhost\nfd00::2\tweb-1\n10.0.0.1 web-10 my-web-1\n").unwrap();
        fs::write(path("hostname"), "other\n").unwrap();
        rename(etc.path(), "web-1", "web-2").unwrap();
        let hosts = fs::read_to_string(path("hosts")).unwrap();
        assert_eq!(hosts, "127.0.0.1 localhost\nfd00::2\tweb-2\n10.0.0.1 web-10 my-web-1\n");
        assert_eq!(fs::read_to_string(path("hostname")).unwrap(), "other\n", "it was never ours");
        rename(etc.path(), "", "web-3").unwrap();
        assert_eq!(fs::read_to_string(path("hosts")).unwrap(), hosts);
    }
}
