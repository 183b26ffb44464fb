//! Who a process acts as: the image's own users, read from its own files.

use std::fs::File;
use std::io::{self, Read};

use nix::unistd::geteuid;

/// A larger file of users is none.
const FILE_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    #[error("user \"{0}\" is not in the image's /etc/passwd")]
    NoUser(String),
    #[error("group \"{0}\" is not in the image's /etc/group")]
    NoGroup(String),
}

/// The account that `user` names in an image config: empty (who the daemon is, root in a machine), `name`, `uid`, `name:group` or
/// `uid:gid`. Run it where the image is `/`.
pub fn look_up(user: &str) -> Result<Account, UserError> {
    let own = geteuid().to_string();
    resolve(if user.is_empty() { &own } else { user }, &read("/etc/passwd"), &read("/etc/group"))
}

/// An image without users has root and numbers.
pub fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    if read.is_err_and(|cause| cause.kind() != io::ErrorKind::NotFound) {
        eprintln!("plfm-init: cannot read {path} of the image");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn resolve(user: &str, passwd: &str, group: &str) -> Result<Account, UserError> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let mut account = account(user, passwd)?;
    match wanted_group {
        Some(wanted) => account.gid = group_id(wanted, group)?,
        None => account.groups = groups_of(&account.name, group),
    }
    Ok(account)
}

fn account(user: &str, passwd: &str) -> Result<Account, UserError> {
    let entries = || passwd.lines().filter_map(entry);
    let number = user.parse::<u32>().ok();
    let by_name = entries().find(|account| account.name == user);
    let found = by_name.or_else(|| entries().find(|account| Some(account.uid) == number));
    match (found, number) {
        (Some(account), _) => Ok(account),
        (None, Some(uid)) => Ok(Account { name: String::new(), uid, gid: 0, groups: vec![], home: "/".into() }),
        (None, None) if user == "root" => {
            Ok(Account { name: user.into(), uid: 0, gid: 0, groups: vec![], home: "/root".into() })
        }
        (None, None) => Err(UserError::NoUser(user.chars().take(64).collect())),
    }
}

/// `name:password:uid:gid:comment:home:shell`
fn entry(line: &str) -> Option<Account> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?.to_owned();
    let uid = fields.nth(1)?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    let home = fields.nth(1).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
    Some(Account { name, uid, gid, groups: vec![], home })
}

fn group_id(wanted: &str, group: &str) -> Result<u32, UserError> {
    let named = group.lines().filter_map(members).find(|(name, ..)| *name == wanted);
    let id = named.map(|(_, gid, _)| gid).or_else(|| wanted.parse().ok());
    id.ok_or_else(|| UserError::NoGroup(wanted.chars().take(64).collect()))
}

fn groups_of(user: &str, group: &str) -> Vec<u32> {
    let belongs = |members: &str| !user.is_empty() && members.split(',').any(|member| member == user);
    group.lines().filter_map(members).filter(|(.., members)| belongs(members)).map(|(_, gid, _)| gid).collect()
}

/// `name:password:gid:member,member`
fn members(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    Some((name, fields.nth(1)?.parse().ok()?, fields.next().unwrap_or_default().trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:/bin/false\n\nbroken\n1000:x:7:8::/odd:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nlogs:x:50:ann,web\nbad:x:many:web\n";

    fn ids(user: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        let account = resolve(user, PASSWD, GROUP).map_err(|error| error.to_string())?;
        Ok((account.uid, account.gid, account.groups, account.home))
    }

    #[test]
    fn every_form_of_an_image_config_resolves() {
        assert_eq!(ids("0"), Ok((0, 0, vec![], "/root".into())));
        assert_eq!(ids("web"), Ok((33, 33, vec![50], "/var/www".into())));
        assert_eq!(ids("33"), Ok((33, 33, vec![50], "/var/www".into())));
        assert_eq!(ids("web:logs"), Ok((33, 50, vec![], "/var/www".into())));
        assert_eq!(ids("web:"), Ok((33, 33, vec![50], "/var/www".into())));
        assert_eq!(ids("4242:4343"), Ok((4242, 4343, vec![], "/".into())));
        assert_eq!(ids("1000"), Ok((7, 8, vec![], "/odd".into())), "a name goes before a number");
    }

    #[test]
    fn what_is_not_there_is_named() {
        assert_eq!(ids("bob").unwrap_err(), "user \"bob\" is not in the image's /etc/passwd");
        assert_eq!(ids("web:staff").unwrap_err(), "group \"staff\" is not in the image's /etc/group");
    }

    #[test]
    fn root_needs_no_file() {
        assert_eq!(resolve("root", "", "").map(|account| account.home), Ok("/root".into()));
        assert_eq!(resolve("0", "", "").map(|account| account.uid), Ok(0));
    }
}
