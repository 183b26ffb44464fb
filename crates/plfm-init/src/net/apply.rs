//! Carries the steps out by netlink: the image's tools may be missing, old or not what they seem.

use std::net::IpAddr;
use std::time::Duration;
use std::{fs, io};

use futures::TryStreamExt;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use tokio::time::{Instant, sleep};

use super::plan::Step;

/// A device that its driver has not shown by then will not come.
const DEVICE_WAIT: Duration = Duration::from_secs(5);
const DEVICE_POLL: Duration = Duration::from_millis(5);

#[derive(Debug, thiserror::Error)]
pub enum NetError {
    #[error("open netlink: {0}")]
    Open(io::Error),
    #[error("network device {0} did not appear")]
    NoDevice(&'static str),
    #[error("{step:?}: {cause}")]
    Step { step: Step, cause: rtnetlink::Error },
    #[error("{step:?}: {cause}")]
    Set { step: Step, cause: io::Error },
}

pub async fn apply(steps: &[Step]) -> Result<(), NetError> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(NetError::Open)?;
    let connection = tokio::spawn(connection);
    let done = carry_out(steps, &handle).await;
    connection.abort();
    done
}

async fn carry_out(steps: &[Step], handle: &Handle) -> Result<(), NetError> {
    for step in steps {
        let failed = |cause| NetError::Step { step: step.clone(), cause };
        match step {
            Step::Set { path, value } => {
                set(path, value).map_err(|cause| NetError::Set { step: step.clone(), cause })?
            }
            Step::Mtu { device, mtu } => {
                let link = link(handle, device).await?.mtu(*mtu).build();
                handle.link().set(link).execute().await.map_err(failed)?;
            }
            Step::Up { device } => {
                let link = link(handle, device).await?.up().build();
                handle.link().set(link).execute().await.map_err(failed)?;
            }
            Step::Address { device, address, prefix } => {
                let index = index(handle, device).await?;
                handle.address().add(index, *address, *prefix).replace().execute().await.map_err(failed)?;
            }
            Step::Route { device, gateway } => {
                let index = index(handle, device).await?;
                route(handle, index, *gateway).await.map_err(failed)?;
            }
        }
    }
    Ok(())
}

async fn route(handle: &Handle, index: u32, gateway: IpAddr) -> Result<(), rtnetlink::Error> {
    let message = match gateway {
        IpAddr::V4(gateway) => {
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().gateway(gateway).output_interface(index).onlink().build()
        }
        IpAddr::V6(gateway) => {
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().gateway(gateway).output_interface(index).onlink().build()
        }
    };
    handle.route().add(message).replace().execute().await
}

fn set(path: &str, value: &str) -> io::Result<()> {
    match fs::write(path, value) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

async fn link(handle: &Handle, device: &'static str) -> Result<LinkMessageBuilder<LinkUnspec>, NetError> {
    Ok(LinkUnspec::new_with_index(index(handle, device).await?))
}

async fn index(handle: &Handle, device: &'static str) -> Result<u32, NetError> {
    let until = Instant::now() + DEVICE_WAIT;
    while Instant::now() < until {
        if let Some(found) = find(handle, device).await {
            return Ok(found.header.index);
        }
        sleep(DEVICE_POLL).await;
    }
    Err(NetError::NoDevice(device))
}

/// A device that is not there is an error of the kernel's here.
async fn find(handle: &Handle, device: &str) -> Option<LinkMessage> {
    handle.link().get().match_name(device.to_owned()).execute().try_next().await.ok().flatten()
}
