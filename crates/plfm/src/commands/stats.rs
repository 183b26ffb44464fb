//! `plfm stats`: what an instance takes of its node.

use plfm_api::views::InstanceStats;

use crate::cli::StatsArgs;
use crate::context::Context;
use crate::printer::{Printer, Table};
use crate::{CliError, Exit};

pub async fn run(args: StatsArgs, context: &Context, out: &mut Printer) -> Result<Exit, CliError> {
    let stats = context.client()?.instance_stats(&context.org(), args.instance).await?;
    if out.is_json() {
        out.document("stats", &stats)?;
    } else {
        out.table(&table(&stats))?;
    }
    Ok(Exit::Success)
}

fn table(stats: &InstanceStats) -> Table {
    let passed = |bytes: Option<u64>| bytes.map_or_else(|| "-".to_owned(), mebibytes);
    let mut table = Table::new(["CPU", "MEMORY", "DISK", "READ", "WRITTEN", "RECEIVED", "SENT"]);
    table.row([
        format!("{:.1} s", stats.cpu_ms as f64 / 1e3),
        mebibytes(stats.memory_bytes),
        mebibytes(stats.disk_bytes),
        mebibytes(stats.read_bytes),
        mebibytes(stats.written_bytes),
        passed(stats.network.map(|it| it.received_bytes)),
        passed(stats.network.map(|it| it.sent_bytes)),
    ]);
    table
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

#[cfg(test)]
mod tests {
    use plfm_api::views::NetworkStats;
    use plfm_core::ids::InstanceId;

    use super::*;

    #[test]
    fn what_it_takes_is_one_line() {
        let network = Some(NetworkStats { received_bytes: 1 << 20, sent_bytes: 0 });
        let mut stats = InstanceStats {
            instance: InstanceId::new(ulid::Ulid(1)),
            cpu_ms: 1_250,
            memory_bytes: 150 << 20,
            disk_bytes: 3 << 19,
            read_bytes: 0,
            written_bytes: 5,
            network,
        };
        expect_test::expect![[r#"
            CPU    MEMORY     DISK     READ     WRITTEN  RECEIVED  SENT
            1.2 s  150.0 MiB  1.5 MiB  0.0 MiB  0.0 MiB  1.0 MiB   0.0 MiB
        "#]]
        .assert_eq(&table(&stats).to_string());
        stats.network = None;
        assert!(table(&stats).to_string().ends_with("-\n"));
    }
}
