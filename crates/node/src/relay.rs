//! Leading an upgraded connection on to the runtime's streaming server.

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

type Body = BoxBody<Bytes, std::io::Error>;

/// Asks the runtime in the client's words, then joins both connections.
pub(crate) async fn relay(url: &str, request: Request<Incoming>) -> Response<Body> {
    match join(url, request).await {
        Ok(response) => response,
        Err(error) => {
            let words = Bytes::from(format!("reach the runtime's streaming server: {error}"));
            let body = Full::new(words).map_err(|never| match never {}).boxed();
            let mut response = Response::new(body);
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        }
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn join(url: &str, mut request: Request<Incoming>) -> Result<Response<Body>, Failed> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().ok_or("the URL has no host")?.to_string();
    let stream = TcpStream::connect(&authority).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut asked = Request::builder().method(request.method()).uri(path);
    for (name, value) in request.headers() {
        if name != http::header::HOST {
            asked = asked.header(name, value);
        }
    }
    let asked = asked.header(http::header::HOST, HeaderValue::from_str(&authority)?);
    let mut answer = sender
        .send_request(asked.body(Empty::<Bytes>::new())?)
        .await?;
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        response = response.header(name, value);
    }
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let body = answer.into_body().map_err(std::io::Error::other).boxed();
        return Ok(response.body(body)?);
    }
    let near = hyper::upgrade::on(&mut request);
    let far = hyper::upgrade::on(&mut answer);
    tokio::spawn(async move {
        if let (Ok(near), Ok(far)) = tokio::join!(near, far) {
            let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
            // Whoever hangs up ends it.
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    });
    Ok(response.body(Empty::new().map_err(|never| match never {}).boxed())?)
}
