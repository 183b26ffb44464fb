//! The two streams between node and server: plans come, reports go. Either breaks at any time and is taken up again.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use plfm_api::documents::{Followed, NODE_DECOMMISSIONED, PlanMessage, Report, ReportNumber, may_tell};
use plfm_api::problem::Problem;
use plfm_api::tls;
use plfm_core::ids::NodeId;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{Notify, mpsc, watch};
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

/// As [`towards`], however long it takes: a host that starts may have its network later than its node.
pub async fn towards_at_last(server: &str) -> IpAddr {
    let mut wait = BACKOFF.0;
    loop {
        match towards(server).await {
            Ok(address) => return address,
            Err(error) => tracing::warn!(error = plfm_core::reason::chain(&error), "waiting for the network"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(BACKOFF.1);
    }
}

/// The address of this host from which packets to the server would come. Nothing is sent but a question for its name.
pub async fn towards(server: &str) -> Result<IpAddr, NodeError> {
    let asked = server.to_owned();
    let looked = tokio::task::spawn_blocking(move || towards_now(&asked)).await;
    looked.unwrap_or_else(|ended| Err(NodeError::NoWay { server: server.to_owned(), source: io::Error::other(ended) }))
}

fn towards_now(server: &str) -> Result<IpAddr, NodeError> {
    let way = || {
        let to = server.to_socket_addrs()?.next().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(to)?;
        Ok(socket.local_addr()?.ip())
    };
    way().map_err(|source| NodeError::NoWay { server: server.to_owned(), source })
}

/// What the server says.
#[derive(Debug)]
pub enum Word {
    Plan(PlanMessage),
    /// The node was decommissioned.
    Dismissed,
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

    /// What the server says into `words`, for as long as somebody takes them. It is asked for no plan older than the one that was
    /// `followed`, and asked anew whenever what it says went `astray`.
    pub async fn follow(self, words: mpsc::Sender<Word>, mut followed: Followed, astray: Arc<Notify>) {
        let mut wait = BACKOFF.0;
        while !words.is_closed() {
            let before = followed;
            let told = tokio::select! {
                told = self.plans(&words, &mut followed) => told,
                () = astray.notified() => Err(LinkError::Astray),
            };
            match told {
                Ok(()) => {}
                Err(LinkError::Dismissed) => {
                    let _ = words.send(Word::Dismissed).await;
                    return words.closed().await;
                }
                Err(error) => tracing::warn!(error = plfm_core::reason::chain(&error), "the plan stream broke"),
            }
            tokio::time::sleep(wait).await;
            wait = if followed == before { (wait * 2).min(BACKOFF.1) } else { BACKOFF.0 };
        }
    }

    /// One connection's worth.
    async fn plans(&self, words: &mpsc::Sender<Word>, followed: &mut Followed) -> Result<(), LinkError> {
        let asked = followed.log.map(|log| format!("?log={log}&seq={}", followed.seq)).unwrap_or_default();
        let url = format!("https://{}/v1/nodes/{}/plan{asked}", self.server, self.node);
        let answer = accepted(tokio::time::timeout(ANSWER_WAIT, self.client.get(url).send()).await??).await?;
        let bytes = answer.bytes_stream().map_err(std::io::Error::other);
        let mut lines = BufReader::new(StreamReader::new(bytes)).lines();
        while let Some(line) = tokio::time::timeout(PLAN_SILENCE_MAX, lines.next_line()).await?? {
            let message: PlanMessage = serde_json::from_str(&line)?;
            if may_tell(message.position, *followed) {
                *followed = Some(message.position).into();
            }
            if words.send(Word::Plan(message)).await.is_err() {
                break;
            }
        }
        Ok(())
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
                    tracing::warn!(error = plfm_core::reason::chain(&error), "a report did not reach the server");
                    wait = (wait * 2).min(REPORT_EVERY);
                    wait
                }
            };
            if let Ok(Err(_)) = tokio::time::timeout(pause, reports.changed()).await {
                return;
            }
        }
    }

    async fn send(&self, report: &Report) -> Result<(), LinkError> {
        let url = format!("https://{}/v1/nodes/{}/report", self.server, self.node);
        let request = self.client.post(url).json(report).timeout(ANSWER_WAIT);
        accepted(request.send().await?).await.map(drop)
    }
}

async fn accepted(answer: reqwest::Response) -> Result<reqwest::Response, LinkError> {
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status();
    Err(match answer.json::<Problem>().await {
        Ok(problem) if problem.code == NODE_DECOMMISSIONED => LinkError::Dismissed,
        Ok(problem) => LinkError::Refused(problem.detail),
        Err(_) => LinkError::Refused(status.to_string()),
    })
}

/// Why a connection to the server came to nothing.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the node has been decommissioned")]
    Dismissed,
    #[error("the server refuses: {0}")]
    Refused(String),
    #[error("the server cannot be asked")]
    Request(#[from] reqwest::Error),
    #[error("it changes a plan of another log than the one that is known here")]
    Astray,
    #[error("the server says nothing")]
    Silence(#[from] tokio::time::error::Elapsed),
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    #[error("the server speaks another language")]
    Foreign(#[from] serde_json::Error),
}
