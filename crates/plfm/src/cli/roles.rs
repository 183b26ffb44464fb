//! The arguments of the roles: `dev`, `server`, `node`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use plfm_node::join::Invitation;

use crate::time;

#[derive(Debug, Clone, Args)]
pub struct DevArgs {
    /// Where everything is kept [default: plfm in the user's data directory]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the API listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7443")]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub edge: EdgeArgs,
    /// Leave the machines running at the end; the next start adopts them
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    pub machines: MachineArgs,
}

#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// Where the log and the keys are kept [default: plfm in the user's data directory]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the API listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7443")]
    pub listen: SocketAddr,
    #[command(flatten)]
    pub edge: EdgeArgs,
    /// A name or address under which others reach this server; repeat for more
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Apps are reached as APP.DOMAIN
    #[arg(long, value_name = "DOMAIN", default_value = "localhost")]
    pub domain: String,
    #[command(flatten)]
    pub images: ImageArgs,
}

/// For whoever takes traffic.
#[derive(Debug, Clone, Args)]
pub struct EdgeArgs {
    /// Where apps are reached over HTTPS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443")]
    pub https: SocketAddr,
    /// Connections of all clients that are open at once
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    pub connections_max: u32,
    /// Connections that one client, an IPv4 address or a /64 of IPv6, has open at once
    #[arg(long, value_name = "COUNT", default_value_t = 512)]
    pub client_connections_max: u32,
    /// Connections that one client makes in a second; twice as many at once
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub client_rate_max: u32,
}

#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct NodeArgs {
    #[command(subcommand)]
    pub command: Option<NodeCommand>,
    /// Join a cluster with what `plfm node token` has printed; needed once
    #[arg(long, value_name = "TOKEN@HOST:PORT#CAFINGERPRINT")]
    pub join: Option<Invitation>,
    /// Where images, disks and the node's key are kept [default: plfm in the user's data directory]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// What people call this node [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Where servers and edges reach this node [default: a port of the address that leads to the server]
    #[arg(long, value_name = "ADDR")]
    pub tunnel: Option<SocketAddr>,
    #[command(flatten)]
    pub machines: MachineArgs,
}

/// With what machines are run, and which kernel.
#[derive(Debug, Clone, Default, Args)]
pub struct MonitorArgs {
    /// Where a kernel package lies unpacked
    #[arg(long, value_name = "DIR", env = "PLFM_KERNEL", hide_env_values = true)]
    pub kernel: Vec<PathBuf>,
    /// A Firecracker, used where guests boot on it [default: QEMU]
    #[arg(long, value_name = "FILE", env = "PLFM_FIRECRACKER", hide_env_values = true)]
    pub firecracker: Option<PathBuf>,
}

/// For whoever makes machines.
#[derive(Debug, Clone, Default, Args)]
pub struct MachineArgs {
    #[command(flatten)]
    pub monitor: MonitorArgs,
    /// Memory of this host to count with; of it 2 GiB, and more of much, are kept for the host itself [default: what it has]
    #[arg(long, value_name = "MIB")]
    pub memory_mib: Option<u64>,
    /// What this host is known by, for who wants certain hosts; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = super::orgs::pair)]
    pub label: Vec<(String, String)>,
    /// Sandboxes of a kind to keep ready for whoever comes next, while memory is left; as many as were started within a minute, and no
    /// more than this
    #[arg(long, value_name = "COUNT", default_value_t = 4)]
    pub parked_max: usize,
    #[command(flatten)]
    pub images: ImageArgs,
}

/// For whoever looks images up.
#[derive(Debug, Clone, Default, Args)]
pub struct ImageArgs {
    /// A registry that is spoken to without TLS; repeat for more
    #[arg(long, value_name = "HOST")]
    pub insecure_registry: Vec<String>,
    /// Credentials of registries, as `docker login` writes them
    #[arg(long, value_name = "FILE", env = "PLFM_REGISTRY_CONFIG", hide_env_values = true)]
    pub registry_config: Option<PathBuf>,
    /// Ask MIRROR before HOST; repeat for more
    #[arg(long, value_name = "HOST=MIRROR")]
    pub registry_mirror: Vec<Mirror>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    pub host: String,
    pub mirror: String,
}

impl FromStr for Mirror {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, mirror) = text.split_once('=').ok_or("write HOST=MIRROR")?;
        Ok(Self { host: host.to_owned(), mirror: mirror.to_owned() })
    }
}

#[derive(Debug, Clone, Subcommand)]
pub enum NodeCommand {
    /// Print the command that adds a node to the cluster
    Token(TokenArgs),
    /// Say whether a node takes work, and what keeps it from being empty
    Explain(NodeName),
    #[command(flatten)]
    Order(OrderCommand),
}

#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// How long the command can be used, once: 24h at most
    #[arg(long, value_name = "TIME", value_parser = time::parse, default_value = "1h")]
    pub expires: Duration,
}

/// What an operator says of nodes.
#[derive(Debug, Clone, Subcommand)]
pub enum OrderCommand {
    /// Give a node no new work, and move what runs there elsewhere
    Drain(DrainArgs),
    /// Drain a node in a minute, whether its work has another place or not
    Disable(DrainArgs),
    /// Let a node take work again
    Activate(NodeName),
    /// Let a node take new work although it is degraded as it is now, as long as it is
    Tolerate(TolerateArgs),
    /// Forget an empty or lost node for ever
    Decommission(NodeName),
    /// Move the work of lost nodes, although so many fell silent at once that it was held back
    Reschedule,
}

#[derive(Debug, Clone, Args)]
pub struct NodeName {
    /// Name or id, as `plfm nodes` lists them
    #[arg(value_name = "NODE")]
    pub node: String,
}

#[derive(Debug, Clone, Args)]
pub struct TolerateArgs {
    #[command(flatten)]
    pub name: NodeName,
    /// Not any more
    #[arg(long)]
    pub off: bool,
}

#[derive(Debug, Clone, Args)]
pub struct DrainArgs {
    #[command(flatten)]
    pub name: NodeName,
    /// Return as soon as the order is accepted
    #[arg(long)]
    pub no_wait: bool,
    /// Stop waiting after this long
    #[arg(long, value_name = "TIME", value_parser = time::parse, default_value = "10m")]
    pub wait_timeout: Duration,
}
