//! Stand-in.
use std::net::SocketAddr;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
pub(crate) struct WebContext {
    pub(crate) flow: crate::flow::Flow,
    pub(crate) tickets: crate::web::Tickets,
    pub(crate) key: crate::web::WebKey,
    pub(crate) listen: SocketAddr,
    pub(crate) version: String,
}
pub(crate) async fn serve(
    c: WebContext,
    _stop: CancellationToken,
) -> anyhow::Result<(SocketAddr, JoinHandle<()>)> {
    let _ = (&c.flow, &c.tickets, &c.key, &c.version);
    Ok((c.listen, tokio::spawn(async {})))
}
