//! Merged images beside the kernel's own overlay of the same layers.

mod support;

use std::fs::File;

use plfm_image::erofs::Image;
use plfm_image::merge;
use support::{ALL, Look, Mounted, is_root, layer, show, skip};

/// A small generator, so that a failing seed can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A layer of few names, so that layers meet. Every directory is described, as container engines do.
fn random_layer(random: &mut Random, lowest: bool) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut dirs = vec![String::new()];
    let mut used = std::collections::BTreeSet::new();
    for n in 0..random.below(25) {
        let parent = dirs[random.below(dirs.len() as u64) as usize].clone();
        let path = format!("{parent}{}", ["a", "b", "c", "d"][random.below(4) as usize]);
        if !used.insert(path.clone()) {
            continue;
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o700 + random.below(64) as u32);
        header.set_mtime(random.below(1000));
        header.set_size(0);
        match random.below(if lowest { 4 } else { 6 }) {
            0 | 1 => {
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, &path, &[][..]).unwrap();
                dirs.push(format!("{path}/"));
            }
            2 => {
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, &path, "b/c").unwrap();
            }
            3 => {
                let content = n.to_string();
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, &path, content.as_bytes()).unwrap();
            }
            4 => builder.append_data(&mut header, whiteout(&path), &[][..]).unwrap(),
            _ => {
                header.set_entry_type(tar::EntryType::Directory);
                builder.append_data(&mut header, &path, &[][..]).unwrap();
                header.set_entry_type(tar::EntryType::Regular);
                builder.append_data(&mut header, format!("{path}/.wh..wh..opq"), &[][..]).unwrap();
                dirs.push(format!("{path}/"));
            }
        }
    }
    builder.into_inner().unwrap()
}

fn whiteout(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((parent, name)) => format!("{parent}/.wh.{name}"),
        None => format!(".wh.{path}"),
    }
}

#[tokio::test]
async fn merging_changes_nothing_that_can_be_seen() {
    const TEST: &str = "merging_changes_nothing_that_can_be_seen";
    if !is_root() {
        return skip(TEST, "needs root");
    }
    let look = Look { links: false, ..ALL };
    let mut lines = 0;
    for seed in 1..=40 {
        let tmp = tempfile::tempdir().unwrap();
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut layers = Vec::new();
        for at in 0..5 {
            layers.push(layer(tmp.path(), &random_layer(&mut random, at == 0)).await.unwrap());
        }
        let all: Vec<_> = layers.iter().map(|layer| layer.file.path().to_owned()).collect();
        let cut = 1 + random.below(4) as usize;
        let merged = [(&all[..cut], true), (&all[cut..], false)].map(|(paths, bottom)| {
            let images: Vec<_> = paths.iter().map(|path| Image::open(File::open(path).unwrap()).unwrap()).collect();
            let file = tempfile::NamedTempFile::new_in(tmp.path()).unwrap();
            merge::merge(&images, bottom, file.reopen().unwrap(), [1; 16]).unwrap();
            file
        });
        let stack = |paths: Vec<_>| -> Option<(Mounted, Vec<Mounted>)> {
            let mounts: Vec<Mounted> = paths.into_iter().map(Mounted::erofs).collect::<Option<_>>()?;
            Some((Mounted::overlay(&mounts)?, mounts))
        };
        let Some(kernel) = stack(all.iter().map(|path| path.as_path()).collect()) else {
            return skip(TEST, "this kernel mounts no EROFS or no overlay");
        };
        let ours = stack(merged.iter().map(|file| file.path()).collect()).expect("the kernel mounts what we merged");
        lines += show(kernel.0.path(), look).lines().count();
        assert_eq!(show(ours.0.path(), look), show(kernel.0.path(), look), "seed {seed}, cut {cut}");
        drop((ours.0, kernel.0));
    }
    assert!(lines > 400, "there was something to compare");
}
