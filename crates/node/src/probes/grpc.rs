//! The client's side of gRPC's health protocol (grpc.health.v1.Health/Check).

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// `SERVING`, in the answer's only field.
const SERVING: [u8; 2] = [0x08, 0x01];

/// Asks whether a service is well; the error is what the server says.
pub(crate) async fn check(
    stream: TcpStream,
    address: SocketAddr,
    service: &str,
) -> Result<(), String> {
    let failed = |error: hyper::Error| format!("ask {address} for its health: {error}");
    let executor = TokioExecutor::new();
    let connection = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await;
    let (mut sender, connection) = connection.map_err(failed)?;
    let driver = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.37")
        .body(Full::new(message(service)))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let in_headers = answer.headers().get("grpc-status").cloned();
        let body = answer.into_body().collect().await?;
        let in_trailers = body
            .trailers()
            .and_then(|all| all.get("grpc-status"))
            .cloned();
        Ok((in_trailers.or(in_headers), body.to_bytes()))
    };
    let answer = answer.await.map_err(failed);
    driver.abort();
    let (code, body) = answer?;
    let code = code
        .as_ref()
        .and_then(|code| code.to_str().ok())
        .unwrap_or("unknown");
    if code != "0" {
        return Err(format!("service unhealthy (gRPC status {code})"));
    }
    match body.get(5..) == Some(&SERVING) {
        true => Ok(()),
        false => Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned()),
    }
}

/// The request's frame: not compressed, its length, the name of the service in field 1.
fn message(service: &str) -> Bytes {
    let mut body = Vec::new();
    if !service.is_empty() {
        body.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            body.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        body.push(u8::try_from(length).unwrap_or_default());
        body.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend(u32::try_from(body.len()).unwrap_or_default().to_be_bytes());
    frame.extend(body);
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_hold_the_service() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(message(&"x".repeat(200)).len(), 5 + 3 + 200);
    }
}
