//! One accepted connection: TLS, then HTTP/1.1 or HTTP/2, whichever was agreed on.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use actix_http::body::BoxBody;
use actix_http::{HttpService, KeepAlive, Request};
use actix_server::GracefulShutdownSignal;
use actix_service::{Service, ServiceFactory, fn_service, map_config};
use actix_web::App;
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::rt::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::http2;
use super::routes;

/// For the TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// For the head of a request, once its connection is there.
const HEAD: Duration = Duration::from_secs(5);
/// How long an unused connection stays. Longer than the 90 s that the API server keeps one: whoever closes first while
/// the other sends loses a request, and clients know better when they send.
pub(super) const IDLE: Duration = Duration::from_secs(180);

/// What one worker does with connections.
pub(super) async fn service(
    acceptor: TlsAcceptor,
    routes: routes::Service,
    draining: GracefulShutdownSignal,
) -> Result<impl Service<TcpStream, Response = (), Error = io::Error>, ()> {
    let app = App::new().configure(|config| routes.configure(config));
    let app = map_config(app, |()| AppConfig::default()).new_service(()).await?;
    let app = Rc::new(app);
    let for_http1 = Rc::clone(&app);
    let signal = draining.clone();
    let http1 = HttpService::<_, _, BoxBody>::build()
        .keep_alive(KeepAlive::Timeout(IDLE))
        .client_request_timeout(HEAD)
        .client_disconnect_timeout(Duration::from_secs(1))
        .graceful_shutdown_signal(move || {
            let signal = signal.clone();
            async move { signal.notified().await }
        })
        .h1(fn_service(move |request: Request| for_http1.call(request)))
        .new_service(())
        .await?;
    let http1 = Rc::new(http1);
    Ok(fn_service(move |socket: TcpStream| {
        let (acceptor, app, http1, draining) = (acceptor.clone(), Rc::clone(&app), Rc::clone(&http1), draining.clone());
        async move {
            // Answers are small and written at once.
            socket.set_nodelay(true)?;
            let peer = socket.peer_addr().ok();
            let stream = match timeout(HANDSHAKE, acceptor.accept(socket)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!(?peer, %error, "TLS handshake failed");
                    return Ok(());
                }
                Err(_) => {
                    tracing::debug!(?peer, "TLS handshake took too long");
                    return Ok(());
                }
            };
            let result = if is_http2(&stream) {
                http2::serve(stream, app, draining).await.map_err(|error| error.to_string())
            } else {
                http1.call((stream, peer)).await.map_err(|error| error.to_string())
            };
            if let Err(error) = result {
                tracing::debug!(?peer, error, "connection ended");
            }
            Ok(())
        }
    }))
}

fn is_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

/// The response type of the application, for [`http2`].
pub(super) type Answered = ServiceResponse<BoxBody>;
