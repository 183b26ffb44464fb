//! Fewer devices for many layers: consecutive layers become one image, as overlayfs would show them.
//!
//! Which layers go together is [`plan`]ned from their sizes, so that as few bytes as possible are written again. Two
//! things overlayfs can't do force layers together: a directory that a layer has only because of what is in it (the
//! lower layers know its real mode and owner), and an opaque root.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;

use crate::erofs::{DirId, Entry, Error, FileType, Image, Names, Writer, Written};

/// A machine has this many devices for images.
pub const DEVICES_MAX: usize = 4;

/// What the plan has to know of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weight {
    pub bytes: u64,
    /// It has directories whose attributes the layers below know better.
    pub implied: bool,
    /// Nothing below it is seen.
    pub opaque: bool,
}

/// Groups of consecutive layers, lowest first; a group of one stays as it is. Layers below an opaque root are left out.
pub fn plan(layers: &[Weight]) -> Vec<Range<usize>> {
    let bottom = layers.iter().rposition(|layer| layer.opaque).unwrap_or(0);
    // All that lies below a layer with implied directories may have the truth about them.
    let truth = (bottom + 1..layers.len()).rev().find(|at| layers[*at].implied).unwrap_or(bottom);
    let borders: Vec<_> = [bottom].into_iter().chain(truth + 1..=layers.len()).collect();
    split(layers, &borders, DEVICES_MAX).1
}

/// The cheapest way to make at most so many groups between the first border and the last, and its cost in bytes that
/// are written again. It tries them all: with 128 layers a third of a million, once for an image.
fn split(layers: &[Weight], borders: &[usize], groups: usize) -> (u64, Vec<Range<usize>>) {
    let cost = |group: &Range<usize>| match group.len() {
        1 => 0,
        _ => layers[group.clone()].iter().map(|layer| layer.bytes).sum::<u64>() + 1,
    };
    let whole = borders[0]..borders[borders.len() - 1];
    let mut best = (cost(&whole), vec![whole]);
    if groups == 1 {
        return best;
    }
    for at in 1..borders.len() - 1 {
        let first = borders[0]..borders[at];
        let (rest_cost, rest) = split(layers, &borders[at..], groups - 1);
        if cost(&first) + rest_cost < best.0 {
            best = (cost(&first) + rest_cost, [vec![first], rest].concat());
        }
    }
    best
}

/// Writes what a stack of images shows, lowest first. At the bottom of all layers there is nothing left to hide.
pub fn merge(images: &[Image], bottom: bool, target: File, uuid: [u8; 16]) -> Result<Written, Error> {
    let mut merge =
        Merge { images, bottom, writer: Writer::new(target, uuid)?, links: HashMap::new(), open: Vec::new() };
    merge.root()?;
    while let Some((dir, sources)) = merge.open.pop() {
        merge.directory(dir, &sources)?;
    }
    merge.writer.finish()
}

/// A file of one of the images.
type Place = (usize, u64);

struct Merge<'a> {
    images: &'a [Image],
    bottom: bool,
    writer: Writer,
    /// Where files with several names went.
    links: HashMap<Place, u64>,
    /// Directories whose names are still to come, with what they are made of, highest first.
    open: Vec<(DirId, Vec<Place>)>,
}

impl Merge<'_> {
    fn root(&mut self) -> Result<(), Error> {
        let roots: Vec<Place> = (0..self.images.len()).rev().map(|image| (image, crate::erofs::ROOT_NID)).collect();
        let stack = self.stack(&roots)?;
        if let Some(meta) = stack.meta() {
            self.writer.describe(DirId::ROOT, meta)?;
        }
        if stack.opaque && !self.bottom {
            self.writer.opaque(DirId::ROOT);
        }
        self.open.push((DirId::ROOT, stack.places));
        Ok(())
    }

    fn directory(&mut self, dir: DirId, sources: &[Place]) -> Result<(), Error> {
        let mut lists = Vec::with_capacity(sources.len());
        for (image, nid) in sources {
            let mut names = self.images[*image].names(&self.images[*image].entry(*nid)?);
            let head = names.next(&self.images[*image])?;
            lists.push(List { image: *image, names, head });
        }
        while let Some(name) = lists.iter().filter_map(|list| Some(&list.head.as_ref()?.0)).min().cloned() {
            let mut places = Vec::new();
            for list in lists.iter_mut().filter(|list| list.head.as_ref().is_some_and(|(head, _)| *head == name)) {
                let next = list.names.next(&self.images[list.image])?;
                places.extend(std::mem::replace(&mut list.head, next).map(|(_, nid)| (list.image, nid)));
            }
            self.name(dir, &name, &places)?;
        }
        Ok(())
    }

    /// The highest layer decides what a name is; directories go on with those below.
    fn name(&mut self, dir: DirId, name: &[u8], places: &[Place]) -> Result<(), Error> {
        let top = self.images[places[0].0].entry(places[0].1)?;
        match top.kind {
            FileType::Directory => self.stacked(dir, name, places),
            FileType::Char if top.is_whiteout() && self.bottom => Ok(()),
            FileType::Char if top.is_whiteout() => self.writer.whiteout(dir, name),
            _ => self.file(dir, name, places[0], &top),
        }
    }

    fn stacked(&mut self, parent: DirId, name: &[u8], places: &[Place]) -> Result<(), Error> {
        let stack = self.stack(places)?;
        let dir = match stack.meta() {
            Some(meta) => self.writer.directory(parent, name, meta)?,
            None => self.writer.implied_directory(parent, name)?,
        };
        if stack.opaque && !self.bottom {
            self.writer.opaque(dir);
        }
        self.open.push((dir, stack.places));
        Ok(())
    }

    fn stack(&self, places: &[Place]) -> Result<Stack, Error> {
        let mut stack = Stack { places: Vec::new(), described: None, opaque: false };
        for (image, nid) in places {
            let entry = self.images[*image].entry(*nid)?;
            // A file or a whiteout hides all below it, in this stack and under it.
            stack.opaque = entry.kind != FileType::Directory || entry.opaque;
            if entry.kind == FileType::Directory {
                stack.places.push((*image, *nid));
                if !entry.implied && stack.described.is_none() {
                    stack.described = Some(entry);
                }
            }
            if stack.opaque {
                break;
            }
        }
        Ok(stack)
    }

    fn file(&mut self, dir: DirId, name: &[u8], place: Place, entry: &Entry) -> Result<(), Error> {
        if let Some(nid) = self.links.get(&place) {
            return self.writer.link(dir, name, *nid, entry.kind);
        }
        let image = &self.images[place.0];
        let nid = match entry.kind {
            FileType::Regular => self.writer.file(dir, name, &entry.meta, entry.size, &mut image.content(entry))?,
            FileType::Symlink => self.writer.symlink(dir, name, &entry.meta, &image.link_target(entry)?)?,
            kind => self.writer.special(dir, name, kind, &entry.meta, entry.rdev)?,
        };
        if entry.nlink > 1 {
            self.links.insert(place, nid);
        }
        Ok(())
    }
}

/// The directories of one name that are seen through one another, highest first.
struct Stack {
    places: Vec<Place>,
    described: Option<Entry>,
    opaque: bool,
}

impl Stack {
    fn meta(&self) -> Option<crate::erofs::Meta> {
        self.described.as_ref().map(|entry| entry.meta.clone())
    }
}

/// A directory's names, with the next one in hand.
struct List {
    image: usize,
    names: Names,
    head: Option<(Vec<u8>, u64)>,
}

#[cfg(test)]
mod tests;
