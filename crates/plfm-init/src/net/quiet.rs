//! Waits until nobody from outside is connected to what listens in this machine.
//!
//! Whoever sends traffic learns that an instance leaves a moment after the instance does, and what was sent before is still being
//! answered: a workload that is told at once would cut both off.

use std::io::Cursor;
use std::time::Duration;

use procfs_core::net::{TcpNetEntries, TcpNetEntry, TcpState};
use procfs_core::{ExplicitSystemInfo, FromBufReadSI};
use tokio::time::{Instant, sleep, timeout};

const LOOK_EVERY: Duration = Duration::from_millis(50);
const TABLES: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];

/// Returns when nobody was connected for as long as `quiet`, after `at_most` in any case, and at once where nothing listens.
pub async fn wait(quiet: Duration, at_most: Duration) {
    let quiet_for_long = async {
        let mut since = Instant::now();
        while since.elapsed() < quiet {
            match traffic(&sockets()) {
                Traffic::NoServer => return,
                Traffic::None => {}
                Traffic::Some => since = Instant::now(),
            }
            sleep(LOOK_EVERY).await;
        }
    };
    let _ = timeout(at_most, quiet_for_long).await;
}

#[derive(Debug, PartialEq, Eq)]
enum Traffic {
    /// Nobody outside could connect.
    NoServer,
    None,
    Some,
}

/// What cannot be read is as if it were empty.
fn sockets() -> Vec<TcpNetEntry> {
    TABLES.iter().filter_map(|path| std::fs::read(path).ok()).flat_map(|table| parse(&table)).collect()
}

fn parse(table: &[u8]) -> Vec<TcpNetEntry> {
    // Of all this only the order of the bytes matters here.
    let system = ExplicitSystemInfo {
        boot_time_secs: 0,
        ticks_per_second: 100,
        page_size: 4096,
        is_little_endian: cfg!(target_endian = "little"),
    };
    TcpNetEntries::from_buf_read(Cursor::new(table), &system).map(|table| table.0).unwrap_or_default()
}

fn traffic(sockets: &[TcpNetEntry]) -> Traffic {
    let is_server =
        |it: &&TcpNetEntry| it.state == TcpState::Listen && !it.local_address.ip().to_canonical().is_loopback();
    let servers = sockets.iter().filter(is_server).map(|it| it.local_address.port()).collect::<Vec<_>>();
    if servers.is_empty() {
        return Traffic::NoServer;
    }
    let from_outside = |it: &&TcpNetEntry| {
        servers.contains(&it.local_address.port())
            && !it.remote_address.ip().to_canonical().is_loopback()
            && is_open(&it.state)
    };
    if sockets.iter().any(|it| from_outside(&it)) { Traffic::Some } else { Traffic::None }
}

/// Something is still to be received or sent.
fn is_open(state: &TcpState) -> bool {
    use TcpState::*;
    match state {
        Established | SynRecv | NewSynRecv | FinWait1 | CloseWait | LastAck | Closing => true,
        Listen | SynSent | FinWait2 | TimeWait | Close => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    const REST: &str = "00000000:00000000 00:00000000 00000000     0        0 17 1 0000000000000000 100 0 0 10 0";

    fn seen(lines: &[&str]) -> Traffic {
        let lines = lines.iter().enumerate().map(|(slot, line)| format!("{slot:4}: {line} {REST}\n"));
        traffic(&parse((HEAD.to_owned() + &lines.collect::<String>()).as_bytes()))
    }

    #[test]
    fn only_who_comes_from_outside_to_a_server_is_waited_for() {
        const LISTEN: &str = "00000000:1F90 00000000:0000 0A";
        const PEER: &str = "0100000A:1F90 0200000A:C350";
        let with = |state: &str| seen(&[LISTEN, &format!("{PEER} {state}")]);
        assert_eq!(seen(&[]), Traffic::NoServer);
        assert_eq!(seen(&[LISTEN]), Traffic::None);
        for open in ["01", "03", "04", "08", "09", "0B"] {
            assert_eq!(with(open), Traffic::Some, "{open}");
        }
        for over in ["05", "06", "07"] {
            assert_eq!(with(over), Traffic::None, "{over}");
        }
        let loopback_only = "0100007F:1F90 00000000:0000 0A";
        assert_eq!(seen(&[loopback_only, &format!("{PEER} 01")]), Traffic::NoServer, "nobody outside reaches it");
        assert_eq!(seen(&[LISTEN, "0100007F:1F90 0100007F:C350 01"]), Traffic::None, "the machine's own");
        assert_eq!(seen(&[LISTEN, "0100000A:C350 0200000A:1F90 01"]), Traffic::None, "what it calls itself");
        let v6 = ["00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A"];
        let peer = "0000000000000000FFFF00000100000A:1F90 0000000000000000FFFF00000200000A:C350 01";
        assert_eq!((seen(&v6), seen(&[v6[0], peer])), (Traffic::None, Traffic::Some));
    }

    #[test]
    fn a_table_that_is_cut_off_is_no_trouble() {
        let table = format!("{HEAD}   0: 00000000:1F90 00000000:0000 0A {REST}\n");
        for end in 0..table.len() {
            parse(&table.as_bytes()[..end]);
        }
    }
}
