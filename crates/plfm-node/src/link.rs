//! The two streams between node and server: plans come, reports go. Either breaks at any time and is taken up again.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use futures::TryStreamExt;
use plfm_api::documents::{PlanMessage, Report, ReportNumber};
use plfm_api::tls;
use plfm_core::ids::NodeId;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{mpsc, watch};
use tokio_util::io::StreamReader;

use crate::NodeError;
use crate::join::Membership;

/// P-AGT-11. A server that hears nothing for thirty seconds places nothing here.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// The server says something every five seconds; this long without a word is a dead connection.
const PLAN_SILENCE_MAX: Duration = Duration::from_secs(20);
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
pub const CONNECT_WAIT: Duration = Duration::from_secs(5);
pub const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// The address of this host from which packets to the server would come. Nothing is sent.
pub fn towards(server: &str) -> Result<IpAddr, NodeError> {
    let way = || {
        let to = server.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        Ok(socket.local_addr()?.ip())
    };
    way().map_err(|source| NodeError::NoWay { server: server.to_owned(), source })
}

#[derive(Clone)]
pub struct Link {
    client: reqwest::Client,
    server: String,
    node: NodeId,
}

impl Link {
    pub fn new(membership: &Membership) -> Result<Self, NodeError> {
        let identity = membership.identity();
        let config = tls::client_config(Some(&identity), &identity.ca_pem)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .https_only(true)
            .connect_timeout(CONNECT_WAIT)
            .build()?;
        Ok(Self { client, server: membership.server.clone(), node: membership.node })
    }

    /// Plans into `plans`, for as long as somebody takes them.
    pub async fn follow(self, plans: mpsc::Sender<PlanMessage>) {
        let mut wait = BACKOFF.0;
        while !plans.is_closed() {
            match self.plans(&plans).await {
                Ok(heard) if heard => wait = BACKOFF.0,
                Ok(_) => {}
                Err(error) => tracing::warn!(error = crate::hands::chain(&*error), "the plan stream broke"),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF.1);
        }
    }

    /// One connection's worth; whether anything was heard.
    async fn plans(&self, plans: &mpsc::Sender<PlanMessage>) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        let url = format!("https://{}/v1/nodes/{}/plan", self.server, self.node);
        let answer = tokio::time::timeout(ANSWER_WAIT, self.client.get(url).send()).await??.error_for_status()?;
        let bytes = answer.bytes_stream().map_err(std::io::Error::other);
        let mut lines = BufReader::new(StreamReader::new(bytes)).lines();
        let mut heard = false;
        while let Some(line) = tokio::time::timeout(PLAN_SILENCE_MAX, lines.next_line()).await?? {
            heard = true;
            if plans.send(serde_json::from_str(&line)?).await.is_err() {
                break;
            }
        }
        Ok(heard)
    }

    /// Each new report at once, and the last one again as a sign of life. `life` is this start of the node among all.
    pub async fn report(self, mut reports: watch::Receiver<Option<Report>>, life: u64) {
        let mut number = ReportNumber { incarnation: life, number: 0 };
        let mut wait = BACKOFF.0;
        loop {
            let report = reports.borrow_and_update().clone();
            let sent = match report {
                Some(mut report) => {
                    number.number += 1;
                    report.number = number;
                    self.send(&report).await
                }
                None => Ok(()),
            };
            let pause = match sent {
                Ok(()) => {
                    wait = BACKOFF.0;
                    REPORT_EVERY
                }
                Err(error) => {
                    tracing::warn!(error = crate::hands::chain(&error), "a report did not reach the server");
                    wait = (wait * 2).min(REPORT_EVERY);
                    wait
                }
            };
            if let Ok(Err(_)) = tokio::time::timeout(pause, reports.changed()).await {
                return;
            }
        }
    }

    async fn send(&self, report: &Report) -> Result<(), reqwest::Error> {
        let url = format!("https://{}/v1/nodes/{}/report", self.server, self.node);
        let request = self.client.post(url).json(report).timeout(ANSWER_WAIT);
        request.send().await?.error_for_status().map(drop)
    }
}
