//! What a node answers besides tunnels: a plain GET, its body as it comes.

use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use plfm_core::ids::NodeId;

use super::{ANSWER_WAIT, CONNECT_WAIT, TunnelError, Tunnels, within};
use crate::tls;

impl Tunnels {
    pub async fn get(&self, node: NodeId, at: &str, path: &str) -> Result<http::Response<Incoming>, TunnelError> {
        let stream = within(CONNECT_WAIT, node, at, self.connect(node, at)).await?;
        let stream = stream.map_err(|source| TunnelError::Unreachable { node, at: at.to_owned(), source })?;
        let cut = |source| TunnelError::Cut { node, source };
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(cut)?;
        // Ends with the body, or when the reader drops it.
        tokio::spawn(connection);
        let request = http::Request::get(path)
            .header(http::header::HOST, tls::node_name(node))
            .body(Empty::<&'static [u8]>::new())
            .expect("the callers' paths are ids and plain words");
        within(ANSWER_WAIT, node, at, sender.send_request(request)).await?.map_err(cut)
    }
}
