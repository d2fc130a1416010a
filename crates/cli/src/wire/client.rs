//! Requests to the daemon over connections that are kept and used again.

use std::io::{self, BufReader, Read, Write};

use serde::Serialize;

use super::body::{Body, write_chunked};
use super::endpoint::{Endpoint, Stream};
use super::head::Head;
use crate::failure::Failure;

/// Most bytes of an answer that is read as a whole.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// A request's body.
pub enum Payload<'a> {
    /// None.
    Empty,
    /// A JSON document.
    Json(Vec<u8>),
    /// Bytes of unknown number, with their media type.
    Stream(&'a mut dyn Read, &'static str),
}

impl std::fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Payload::Empty => "Empty",
            Payload::Json(_) => "Json",
            Payload::Stream(..) => "Stream",
        })
    }
}

/// One request.
#[derive(Debug)]
pub struct Request<'a> {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    payload: Payload<'a>,
    upgrade: bool,
}

impl<'a> Request<'a> {
    /// A request without a body.
    pub fn new(method: &'static str, path: impl Into<String>) -> Request<'a> {
        Request {
            method,
            path: path.into(),
            headers: Vec::new(),
            payload: Payload::Empty,
            upgrade: false,
        }
    }

    /// GET.
    pub fn get(path: impl Into<String>) -> Request<'a> {
        Request::new("GET", path)
    }

    /// POST.
    pub fn post(path: impl Into<String>) -> Request<'a> {
        Request::new("POST", path)
    }

    /// DELETE.
    pub fn delete(path: impl Into<String>) -> Request<'a> {
        Request::new("DELETE", path)
    }

    /// With a JSON body.
    pub fn json(mut self, body: &impl Serialize) -> Request<'a> {
        self.payload = Payload::Json(serde_json::to_vec(body).unwrap_or_default());
        self
    }

    /// With a streamed body.
    pub fn body(mut self, from: &'a mut dyn Read, media_type: &'static str) -> Request<'a> {
        self.payload = Payload::Stream(from, media_type);
        self
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Request<'a> {
        let value: String = value.into();
        if !value.is_empty() {
            self.headers.push((name, value.replace(['\r', '\n'], " ")));
        }
        self
    }

    /// Asks for the raw connection.
    pub fn upgrade(mut self) -> Request<'a> {
        self.upgrade = true;
        self
    }
}

/// An answer read as a whole.
#[derive(Debug)]
pub struct Reply {
    /// Status and headers.
    pub head: Head,
    /// Body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::said(format!(
                "the daemon's answer is not the expected JSON: {error}"
            ))
        })
    }
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub struct Streaming {
    /// Status and headers.
    pub head: Head,
    /// Body.
    pub body: Body,
}

/// A client with its idle connections.
#[derive(Debug)]
pub struct Client {
    /// Where the daemon is.
    pub endpoint: Endpoint,
    /// `/v1.41` when the user asked for a version, else nothing: the daemon answers in its newest.
    pub version_prefix: String,
    /// Version header for `User-Agent`.
    pub agent: String,
    idle: Vec<BufReader<Stream>>,
}

impl Client {
    /// A client that connects when first used.
    pub fn new(endpoint: Endpoint, version_prefix: String) -> Client {
        let agent = format!("Wharf-Client/{} (linux)", env!("CARGO_PKG_VERSION"));
        Client {
            endpoint,
            version_prefix,
            agent,
            idle: Vec::new(),
        }
    }

    /// Keeps an open connection for the next request.
    pub fn adopt(&mut self, stream: Stream) {
        self.idle.push(BufReader::with_capacity(16 * 1024, stream));
    }

    /// Sends a request and reads the whole answer. A status of 400 or more is a failure.
    pub fn call(&mut self, request: Request<'_>) -> Result<Reply, Failure> {
        let during = format!("{} {}", request.method, request.path);
        let mut streaming = self.stream(request)?;
        let mut body = Vec::new();
        (&mut streaming.body)
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut body)
            .map_err(|error| Failure::Wire {
                during,
                why: error.to_string(),
            })?;
        if let Some(idle) = streaming.body.into_idle() {
            self.idle.push(idle);
        }
        Ok(Reply {
            head: streaming.head,
            body,
        })
    }

    /// Sends a request and reads the answer as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(
        &mut self,
        request: Request<'_>,
    ) -> Result<T, Failure> {
        self.call(request)?.json()
    }

    /// Sends a request and gives the body for reading. A status of 400 or more is a failure.
    pub fn stream(&mut self, mut request: Request<'_>) -> Result<Streaming, Failure> {
        let during = format!("{} {}", request.method, request.path);
        let bodyless = request.method == "HEAD";
        let wire = |why: io::Error| Failure::Wire {
            during: during.clone(),
            why: why.to_string(),
        };
        let (stream, head) = self.exchange(&mut request)?;
        let mut body = Body::new(stream, &head, bodyless).map_err(wire)?;
        if head.status < 400 {
            return Ok(Streaming { head, body });
        }
        let mut text = Vec::new();
        (&mut body)
            .take(1 << 20)
            .read_to_end(&mut text)
            .map_err(wire)?;
        if let Some(idle) = body.into_idle() {
            self.idle.push(idle);
        }
        Err(refusal(&head, &text, &during))
    }

    /// Sends a request that asks for the raw connection and returns that.
    pub fn hijack(&mut self, request: Request<'_>) -> Result<BufReader<Stream>, Failure> {
        let path = request.path.clone();
        let streaming = self.stream(request.upgrade())?;
        if streaming.head.status != 101 && streaming.head.status != 200 {
            return Err(Failure::Wire {
                during: path,
                why: format!(
                    "unable to upgrade to tcp, received {}",
                    streaming.head.status
                ),
            });
        }
        Ok(streaming.body.into_raw())
    }

    fn exchange(
        &mut self,
        request: &mut Request<'_>,
    ) -> Result<(BufReader<Stream>, Head), Failure> {
        let during = format!("{} {}", request.method, request.path);
        let replayable = !matches!(request.payload, Payload::Stream(..));
        while let Some(mut idle) = self.idle.pop() {
            if !replayable {
                continue;
            }
            // The daemon may have closed a kept connection; then nothing of the request was acted on.
            match self
                .send(&mut idle, request)
                .and_then(|()| Head::read(&mut idle))
            {
                Ok(head) => return Ok((idle, head)),
                Err(error) if stale(&error) => continue,
                Err(error) => {
                    return Err(Failure::Wire {
                        during,
                        why: error.to_string(),
                    });
                }
            }
        }
        let stream = self.connect()?;
        let mut stream = BufReader::with_capacity(16 * 1024, stream);
        let relay = if replayable {
            None
        } else {
            stream.get_ref().relay().ok()
        };
        let sent = self.send(&mut stream, request);
        if let Some(relay) = relay {
            stream = BufReader::with_capacity(16 * 1024, relay);
        }
        match Head::read(&mut stream) {
            // An answer that came before the whole body was taken explains more than the broken pipe.
            Ok(head) => match sent {
                Err(error) if head.status < 400 => Err(Failure::Wire {
                    during,
                    why: error.to_string(),
                }),
                _ => Ok((stream, head)),
            },
            Err(error) => {
                let error = sent
                    .err()
                    .filter(|e| e.kind() != io::ErrorKind::BrokenPipe)
                    .unwrap_or(error);
                Err(Failure::Wire {
                    during,
                    why: error.to_string(),
                })
            }
        }
    }

    /// Opens a connection.
    pub fn connect(&self) -> Result<Stream, Failure> {
        let host = self.endpoint.to_string();
        self.endpoint
            .connect()
            .map_err(|source| match source.kind() {
                io::ErrorKind::PermissionDenied => Failure::Denied { host },
                _ => Failure::Connect { host, source },
            })
    }

    fn send(&self, stream: &mut BufReader<Stream>, request: &mut Request<'_>) -> io::Result<()> {
        let host = match &self.endpoint {
            Endpoint::Unix(_) => "localhost",
            Endpoint::Tcp(address) => address,
        };
        let mut head = format!(
            "{} {}{} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {}\r\n",
            request.method, self.version_prefix, request.path, self.agent
        );
        for (name, value) in &request.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if request.upgrade {
            head.push_str("Connection: Upgrade\r\nUpgrade: tcp\r\n");
        }
        let out = stream.get_mut();
        match &mut request.payload {
            Payload::Empty => {
                if request.method == "POST" || request.method == "PUT" {
                    head.push_str("Content-Length: 0\r\n");
                }
                head.push_str("\r\n");
                out.write_all(head.as_bytes())
            }
            Payload::Json(bytes) => {
                head.push_str(&format!(
                    "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    bytes.len()
                ));
                let mut whole = head.into_bytes();
                whole.extend_from_slice(bytes);
                out.write_all(&whole)
            }
            Payload::Stream(from, media_type) => {
                head.push_str(&format!(
                    "Content-Type: {media_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
                ));
                out.write_all(head.as_bytes())?;
                write_chunked(out, *from)
            }
        }
    }
}

fn stale(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

fn refusal(head: &Head, body: &[u8], during: &str) -> Failure {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    let message = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => value
            .get("message")
            .and_then(|m| m.as_str())
            .unwrap_or(text)
            .trim()
            .to_owned(),
        Err(_) => text.to_owned(),
    };
    let message = if message.is_empty() {
        format!(
            "request returned {} for API route and version {during}",
            head.status
        )
    } else {
        message
    };
    Failure::Daemon {
        status: head.status,
        message,
    }
}
