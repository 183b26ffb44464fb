//! E2B's envd: its messages, and a client of its processes for `exec` and the terminal.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connectrpc::client::{CallOptions, ServerStream, stream_iter};
use hyper::body::Incoming;

use crate::channel::{Opener, port};
use crate::rpc::{Error, Target};

pub use crate::rpc::generated::filesystem;
pub use crate::rpc::generated::process::{__buffa::oneof, *};
pub use buffa_types::google::protobuf::Timestamp;
pub use oneof::process_event::Event;
pub use oneof::process_event::data_event::Output;
pub use oneof::process_input::Input;
pub use oneof::process_selector::Selector;
pub use oneof::stream_input_request::Event as InputEvent;

#[derive(Clone)]
pub struct Client {
    calls: ProcessClient<Target>,
    user: Option<String>,
}

/// What to run. Default environment, home and user are the sandbox's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Command {
    pub cmd: String,
    pub args: Vec<String>,
    pub env: HashMap<String, String>,
    pub cwd: Option<String>,
    pub tag: Option<String>,
    /// Without one, stdin is `/dev/null`.
    pub stdin: bool,
    pub terminal: Option<Size>,
    /// The process is killed when it has run for so long.
    pub timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub cols: u32,
    pub rows: u32,
}

impl Command {
    pub fn new<'a>(argv: impl IntoIterator<Item = &'a str>) -> Self {
        let mut argv = argv.into_iter().map(str::to_owned);
        Self { cmd: argv.next().unwrap_or_default(), args: argv.collect(), ..Self::default() }
    }
}

impl Client {
    pub fn over(opener: Opener) -> Self {
        Self::new(Target::port(opener, port::ENVD))
    }

    pub fn new(target: Target) -> Self {
        Self { calls: ProcessClient::new(target, Target::config()), user: None }
    }

    /// Acts as this user of the sandbox instead of its default one.
    pub fn as_user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    fn options(&self) -> CallOptions {
        match &self.user {
            Some(user) => CallOptions::default().with_header("authorization", basic(user)),
            None => CallOptions::default(),
        }
    }

    /// Returns when the process runs: its pid is known, its output follows.
    pub async fn start(&self, command: Command) -> Result<Session, Error> {
        let mut options = self.options();
        if let Some(timeout) = command.timeout {
            options = options.with_timeout(timeout);
        }
        let stream = self.calls.start_with_options(command.into(), options).await?;
        Session::begun(Source::Start(stream)).await
    }

    /// Output from now on.
    pub async fn connect(&self, process: Selector) -> Result<Session, Error> {
        let request = ConnectRequest { process: selected(process).into(), ..Default::default() };
        let stream = self.calls.connect_with_options(request, self.options()).await?;
        Session::begun(Source::Connect(stream)).await
    }

    pub async fn list(&self) -> Result<Vec<ProcessInfo>, Error> {
        Ok(self.calls.list_with_options(ListRequest::default(), self.options()).await?.into_owned().processes)
    }

    pub async fn send_input(&self, process: Selector, input: Input) -> Result<(), Error> {
        let input = ProcessInput { input: Some(input), ..Default::default() };
        let request = SendInputRequest { process: selected(process).into(), input: input.into(), ..Default::default() };
        self.calls.send_input_with_options(request, self.options()).await.map(drop)
    }

    /// Sends all of `inputs` in order, in one call.
    pub async fn stream_input(&self, process: Selector, inputs: Vec<Input>) -> Result<(), Error> {
        let start = stream_input_request::StartEvent { process: selected(process).into(), ..Default::default() };
        let data = inputs.into_iter().map(|input| {
            let input = ProcessInput { input: Some(input), ..Default::default() };
            InputEvent::from(stream_input_request::DataEvent { input: input.into(), ..Default::default() })
        });
        let events = std::iter::once(InputEvent::from(start)).chain(data);
        let requests: Vec<_> =
            events.map(|event| StreamInputRequest { event: Some(event), ..Default::default() }).collect();
        self.calls.stream_input_with_options(stream_iter(requests), self.options()).await.map(drop)
    }

    pub async fn close_stdin(&self, process: Selector) -> Result<(), Error> {
        let request = CloseStdinRequest { process: selected(process).into(), ..Default::default() };
        self.calls.close_stdin_with_options(request, self.options()).await.map(drop)
    }

    pub async fn signal(&self, process: Selector, signal: Signal) -> Result<(), Error> {
        let request =
            SendSignalRequest { process: selected(process).into(), signal: signal.into(), ..Default::default() };
        self.calls.send_signal_with_options(request, self.options()).await.map(drop)
    }

    pub async fn resize(&self, process: Selector, size: Size) -> Result<(), Error> {
        let request =
            UpdateRequest { process: selected(process).into(), pty: PTY::from(size).into(), ..Default::default() };
        self.calls.update_with_options(request, self.options()).await.map(drop)
    }
}

/// A running process as one caller sees it. Dropped, the process goes on.
pub struct Session {
    pub pid: u32,
    source: Source,
}

enum Source {
    Start(ServerStream<Incoming, StartResponseView<'static>>),
    Connect(ServerStream<Incoming, ConnectResponseView<'static>>),
}

impl Session {
    async fn begun(mut source: Source) -> Result<Self, Error> {
        match source.next().await? {
            Some(Event::Start(start)) => Ok(Self { pid: start.pid, source }),
            _ => Err(Error::internal("the daemon's first event is not a start")),
        }
    }

    pub fn selector(&self) -> Selector {
        Selector::Pid(self.pid)
    }

    /// The next piece of output or the end; `None` after it. Keep-alives are not shown.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            match self.source.next().await? {
                Some(Event::Keepalive(_)) => {}
                event => return Ok(event),
            }
        }
    }
}

impl Source {
    async fn next(&mut self) -> Result<Option<Event>, Error> {
        let event = match self {
            Source::Start(stream) => {
                stream.message::<StartResponse>().await?.map(|message| message.to_owned_message().event)
            }
            Source::Connect(stream) => {
                stream.message::<ConnectResponse>().await?.map(|message| message.to_owned_message().event)
            }
        };
        Ok(event.and_then(|event| event.as_option().cloned()).and_then(|event| event.event))
    }
}

impl From<Command> for StartRequest {
    fn from(command: Command) -> Self {
        let config = ProcessConfig {
            cmd: command.cmd,
            args: command.args,
            envs: command.env.into_iter().collect(),
            cwd: command.cwd,
            ..Default::default()
        };
        Self {
            process: config.into(),
            pty: command.terminal.map(PTY::from).map_or_else(Default::default, Into::into),
            tag: command.tag,
            stdin: Some(command.stdin),
            ..Default::default()
        }
    }
}

impl From<Size> for PTY {
    fn from(size: Size) -> Self {
        Self { size: pty::Size { cols: size.cols, rows: size.rows, ..Default::default() }.into(), ..Default::default() }
    }
}

fn selected(selector: Selector) -> ProcessSelector {
    ProcessSelector { selector: Some(selector), ..Default::default() }
}

/// E2B's SDKs name the acting user so; there is no password.
fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:")))
}
