use super::*;

fn size_of_all(dir: &Path) -> u64 {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test(start_paused = true)]
async fn a_talkative_guest_fills_a_mebibyte_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let console = Console::create(dir.path()).unwrap();
    let talk: Vec<u8> = (0..400_000).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
    assert!(talk.len() > 4 << 20);
    console.drain(&talk[..]).await.unwrap();
    assert!(size_of_all(dir.path()) <= 2 * FILE_BYTES_MAX);
    assert!(tail(dir.path()).ends_with("line 399998\nline 399999\n"));
    assert_eq!(tail(dir.path()).len() as u64, TAIL_BYTES_MAX);
}

#[tokio::test(start_paused = true)]
async fn it_is_taken_no_faster_than_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let before = tokio::time::Instant::now();
    Console::create(dir.path()).unwrap().drain(&vec![b'x'; 1 << 20][..]).await.unwrap();
    assert!(before.elapsed() >= Duration::from_secs(4), "a mebibyte at 256 KiB/s");
}

#[tokio::test]
async fn a_new_boot_starts_with_an_empty_console() {
    let dir = tempfile::tempdir().unwrap();
    Console::create(dir.path()).unwrap().drain(&b"panic"[..]).await.unwrap();
    Console::open(dir.path()).unwrap().drain(&b" again"[..]).await.unwrap();
    assert_eq!(tail(dir.path()), "panic again");
    Console::create(dir.path()).unwrap();
    assert_eq!(tail(dir.path()), "");
}
