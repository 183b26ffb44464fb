//! `process.Process`.

use std::sync::Arc;

use connectrpc::{ConnectError, InboundStream, RequestContext, Response, ServiceRequest, ServiceResult, ServiceStream};
use futures::StreamExt;
use nix::sys::signal::Signal as SystemSignal;
use plfm_api::envd::{self, Input, InputEvent, ProcessInput, ProcessSelector, Signal};
use tokio::time::{Instant, sleep_until};

use super::process::{InputError, Output, Process};
use super::start;
use super::viewer::Viewer;
use crate::daemon::Daemon;
use crate::launch::Started;
use crate::reaper::Waiting;

pub struct Processes(pub Arc<Daemon>);

impl Processes {
    async fn start(&self, context: &RequestContext, request: envd::StartRequest) -> Result<Viewer, ConnectError> {
        let launch = start::launch(&self.0, context, &request).await?;
        let awake = self.0.awake().await.ok_or_else(|| ConnectError::unavailable("this machine is being saved"))?;
        let started = launch.start(&self.0.place, &self.0.reaper).await;
        drop(awake);
        let Started { pid, exit, ends } = started.map_err(|error| start::refused(&error))?;
        let config = request.process.as_option().cloned().unwrap_or_default();
        let process = Process::new(pid, config, request.tag, ends);
        let (process, output) = process.map_err(|cause| {
            self.0.reaper.signal(pid, SystemSignal::SIGKILL);
            ConnectError::internal(format!("wire process {pid}: {cause}"))
        })?;
        let viewer = Viewer::new(pid, process.audience.join(), context);
        self.0.processes.insert(process.clone());
        tokio::spawn(live(self.0.clone(), process, output, exit, context.deadline().map(Instant::from_std)));
        Ok(viewer)
    }

    /// One that runs, or has just ended.
    fn known(&self, selector: Option<&ProcessSelector>) -> Result<Arc<Process>, ConnectError> {
        let selector = selector.and_then(|selector| selector.selector.as_ref());
        let selector = selector.ok_or_else(|| ConnectError::invalid_argument("the request selects no process"))?;
        self.0
            .processes
            .find(selector)
            .ok_or_else(|| ConnectError::not_found(format!("no process with {}", name(selector))))
    }

    fn running(&self, selector: Option<&ProcessSelector>) -> Result<Arc<Process>, ConnectError> {
        let process = self.known(selector)?;
        if process.audience.has_ended() {
            return Err(ConnectError::not_found(format!("process {} has ended", process.pid)));
        }
        Ok(process)
    }
}

/// Lives with the process, whoever watches; its start's deadline ends it.
async fn live(daemon: Arc<Daemon>, process: Arc<Process>, output: Output, exit: Waiting, deadline: Option<Instant>) {
    let timer = deadline.map(|deadline| {
        let (daemon, process) = (daemon.clone(), process.clone());
        tokio::spawn(async move {
            sleep_until(deadline).await;
            process.cut();
            daemon.reaper.signal(process.pid, SystemSignal::SIGKILL);
        })
    });
    process.live(output, exit).await;
    if let Some(timer) = timer {
        timer.abort();
    }
    daemon.processes.forget(&process).await;
}

fn name(selector: &envd::Selector) -> String {
    match selector {
        envd::Selector::Pid(pid) => format!("pid {pid}"),
        envd::Selector::Tag(tag) => format!("tag \"{tag}\""),
    }
}

async fn feed(process: &Process, input: Option<&ProcessInput>) -> Result<(), ConnectError> {
    let fed = match input.and_then(|input| input.input.as_ref()) {
        Some(Input::Stdin(bytes)) => process.write_stdin(bytes).await,
        Some(Input::Pty(bytes)) => process.write_terminal(bytes).await,
        None => Ok(()),
    };
    fed.map_err(|error| ConnectError::internal(error.to_string()))
}

// The trait allows cheaper answers than whole messages; none is needed here.
#[allow(refining_impl_trait)]
impl envd::Process for Processes {
    async fn list(
        &self,
        _: RequestContext,
        _: ServiceRequest<'_, envd::ListRequest>,
    ) -> ServiceResult<envd::ListResponse> {
        let info = |process: Arc<Process>| envd::ProcessInfo {
            config: process.config.clone().into(),
            pid: process.pid,
            tag: process.tag.clone(),
            ..Default::default()
        };
        let processes = self.0.processes.running().into_iter().map(info).collect();
        Response::ok(envd::ListResponse { processes, ..Default::default() })
    }

    async fn start(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, envd::StartRequest>,
    ) -> ServiceResult<ServiceStream<envd::StartResponse>> {
        let viewer = self.start(&context, request.to_owned_message()).await?;
        let answer = |event: envd::ProcessEvent| envd::StartResponse { event: event.into(), ..Default::default() };
        Ok(Response::stream(viewer.events().map(move |event| event.map(answer))))
    }

    async fn connect(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, envd::ConnectRequest>,
    ) -> ServiceResult<ServiceStream<envd::ConnectResponse>> {
        let process = self.known(request.to_owned_message().process.as_option())?;
        let viewer = Viewer::new(process.pid, process.audience.join(), &context);
        let answer = |event: envd::ProcessEvent| envd::ConnectResponse { event: event.into(), ..Default::default() };
        Ok(Response::stream(viewer.events().map(move |event| event.map(answer))))
    }

    async fn update(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, envd::UpdateRequest>,
    ) -> ServiceResult<envd::UpdateResponse> {
        let request = request.to_owned_message();
        let process = self.running(request.process.as_option())?;
        if let Some(pty) = request.pty.as_option() {
            process.resize(start::size(pty)).map_err(|error| ConnectError::internal(error.to_string()))?;
        }
        Response::ok(envd::UpdateResponse::default())
    }

    async fn stream_input(
        &self,
        _: RequestContext,
        mut requests: InboundStream<envd::StreamInputRequest>,
    ) -> ServiceResult<envd::StreamInputResponse> {
        let mut target = None;
        while let Some(request) = requests.next().await {
            match (request?.to_owned_message().event, &target) {
                (Some(InputEvent::Start(start)), _) => target = Some(self.running(start.process.as_option())?),
                (Some(InputEvent::Data(data)), Some(process)) => feed(process, data.input.as_option()).await?,
                (Some(InputEvent::Data(_)), None) => {
                    return Err(ConnectError::invalid_argument("input came before a process was selected"));
                }
                (Some(InputEvent::Keepalive(_)) | None, _) => {}
            }
        }
        Response::ok(envd::StreamInputResponse::default())
    }

    async fn send_input(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, envd::SendInputRequest>,
    ) -> ServiceResult<envd::SendInputResponse> {
        let request = request.to_owned_message();
        let process = self.running(request.process.as_option())?;
        feed(&process, request.input.as_option()).await?;
        Response::ok(envd::SendInputResponse::default())
    }

    async fn send_signal(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, envd::SendSignalRequest>,
    ) -> ServiceResult<envd::SendSignalResponse> {
        let request = request.to_owned_message();
        let process = self.running(request.process.as_option())?;
        let signal = match request.signal.as_known() {
            Some(Signal::SIGNAL_SIGKILL) => SystemSignal::SIGKILL,
            Some(Signal::SIGNAL_SIGTERM) => SystemSignal::SIGTERM,
            _ => return Err(ConnectError::unimplemented("only SIGKILL and SIGTERM can be sent")),
        };
        process.cut();
        if !self.0.reaper.signal(process.pid, signal) {
            return Err(ConnectError::not_found(format!("process {} has ended", process.pid)));
        }
        Response::ok(envd::SendSignalResponse::default())
    }

    async fn close_stdin(
        &self,
        _: RequestContext,
        request: ServiceRequest<'_, envd::CloseStdinRequest>,
    ) -> ServiceResult<envd::CloseStdinResponse> {
        let process = self.running(request.to_owned_message().process.as_option())?;
        let closed = process.close_stdin().await;
        closed.map_err(|error: InputError| ConnectError::unknown(error.to_string()))?;
        Response::ok(envd::CloseStdinResponse::default())
    }
}
