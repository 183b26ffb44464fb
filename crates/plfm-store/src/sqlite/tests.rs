use std::fs;
use std::os::unix::fs::FileExt;

use super::*;
use crate::contract::{self, batch};

fn file() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.db");
    (dir, path)
}

#[test]
fn keeps_the_contract() {
    let dirs = Mutex::new(Vec::new());
    contract::check(&|| {
        let (dir, path) = file();
        dirs.lock().unwrap().push(dir);
        Box::new(SqliteStore::open(&path).unwrap())
    });
}

#[test]
fn what_was_appended_is_there_after_opening_again() {
    let (_dir, path) = file();
    SqliteStore::open(&path).unwrap().append(&batch(1, 3)).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(store.read(Seq(0), 10).unwrap(), batch(1, 3));
}

#[test]
fn events_can_be_neither_edited_nor_deleted() {
    let (_dir, path) = file();
    let store = SqliteStore::open(&path).unwrap();
    store.append(&batch(1, 1)).unwrap();
    for statement in ["UPDATE events SET at = 0", "DELETE FROM events"] {
        assert!(store.connection().execute(statement, []).is_err(), "{statement}");
    }
}

#[test]
fn a_damaged_file_is_refused_with_one_clear_error() {
    let (_dir, path) = file();
    let store = SqliteStore::open(&path).unwrap();
    store.append(&batch(1, 200)).unwrap();
    drop(store);

    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xa5; 8192], 4096).unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StoreError::Damaged(_))));

    fs::write(&path, b"this was never a database, but long enough to look at").unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StoreError::Damaged(_))));
}

#[test]
fn a_log_of_a_later_format_is_refused() {
    let (_dir, path) = file();
    SqliteStore::open(&path).unwrap().connection().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(SqliteStore::open(&path), Err(StoreError::TooNew { found: 99, known: FORMAT })));
}
