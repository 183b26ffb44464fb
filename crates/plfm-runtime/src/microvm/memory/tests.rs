use std::os::fd::AsFd;

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};

use super::*;

const PAGES: usize = 512;

fn entries(own: &[usize]) -> Vec<u8> {
    let entry = |page| if own.contains(&page) { 1u64 << 63 } else { 1 << 63 | 1 << 61 };
    (0..600).flat_map(|page| entry(page).to_ne_bytes()).collect()
}

#[test]
fn own_pages_are_found_in_runs() {
    assert_eq!(runs(&entries(&[])).count(), 0);
    assert_eq!(runs(&entries(&[0, 1, 5, 599])).collect::<Vec<_>>(), [(0, 2), (5, 1), (599, 1)]);
    let many: Vec<_> = (10..300).collect();
    assert_eq!(runs(&entries(&many)).collect::<Vec<_>>(), [(10, 256), (266, 34)], "in chunks");
}

/// Memory of this process, taken for a guest's.
fn mapping(address: *mut u8) -> Mapping {
    let size = Mebibytes((PAGES * PAGE) as u64 >> 20);
    Mapping { pid: std::process::id() as i32, address: address as u64, size }
}

fn write(memory: *mut u8, page: usize, value: u8) {
    // SAFETY: the page is part of a writable mapping of `PAGES` pages that no one else uses.
    unsafe { std::ptr::write_bytes(memory.add(page * PAGE), value, PAGE) };
}

fn first_bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap().chunks_exact(PAGE).map(|page| page[17]).collect()
}

#[test]
fn what_was_written_is_in_the_file_and_again_in_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let (read_write, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: a new mapping at an address of the kernel's choice.
    let memory = unsafe { mmap_anonymous(std::ptr::null_mut(), PAGES * PAGE, read_write, private) }.unwrap().cast();
    write(memory, 3, 7);
    write(memory, 4, 0);
    write(memory, 500, 9);
    assert_eq!(save(&mapping(memory), None, &first).unwrap(), 3);
    let mut expected = vec![0; PAGES];
    (expected[3], expected[500]) = (7, 9);
    assert_eq!(first_bytes(&first), expected);

    let file = File::open(&first).unwrap();
    // SAFETY: as above; changes stay in this process.
    let memory = unsafe { mmap(std::ptr::null_mut(), PAGES * PAGE, read_write, private, file.as_fd(), 0) };
    let memory = memory.unwrap().cast();
    write(memory, 3, 1);
    write(memory, 200, 2);
    assert_eq!(save(&mapping(memory), Some(&first), &second).unwrap(), 2, "only what differs is copied");
    (expected[3], expected[200]) = (1, 2);
    assert_eq!(first_bytes(&second), expected);
    assert_eq!(first_bytes(&first)[3], 7, "the first stays as it was");
    assert!(save(&mapping(memory), None, &first).is_err(), "a file that is there is not written over");
}
