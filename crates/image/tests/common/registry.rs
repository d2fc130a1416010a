//! A registry in memory whose faults are set by the test: breaks, lies, refusals.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use wharf_blob::Digest;

/// Who is asked for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Auth {
    #[default]
    None,
    Basic,
    Bearer,
}

/// What goes wrong.
#[derive(Debug, Default)]
pub struct Faults {
    /// Blob downloads end after so many bytes, this many times.
    pub break_after: Option<(usize, usize)>,
    pub ignore_range: bool,
    /// A byte of every blob is changed on the way.
    pub corrupt: bool,
    /// So many requests are answered with this status first.
    pub busy: Option<(u16, usize)>,
    /// Manifests are another than asked for.
    pub wrong_manifest: bool,
    pub no_mount: bool,
    /// Tokens are accepted so many times only.
    pub token_uses: Option<usize>,
    pub upload_breaks: usize,
}

#[derive(Default)]
pub struct Inner {
    pub auth: Auth,
    pub faults: Faults,
    pub blobs: HashMap<String, Vec<u8>>,
    /// Repository → digests it has.
    pub owned: HashMap<String, Vec<String>>,
    pub manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    pub uploads: HashMap<String, Vec<u8>>,
    pub log: Vec<String>,
    tokens: HashMap<String, (String, usize)>,
    next: usize,
}

pub struct FakeRegistry {
    pub address: String,
    pub inner: Arc<Mutex<Inner>>,
}

struct Request {
    method: String,
    path: String,
    query: HashMap<String, String>,
    headers: HashMap<String, String>,
    body: Vec<u8>,
}

impl FakeRegistry {
    pub fn start() -> FakeRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let inner = Arc::new(Mutex::new(Inner::default()));
        let (shared, own) = (inner.clone(), address.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (inner, address) = (shared.clone(), own.clone());
                std::thread::spawn(move || serve(stream, &inner, &address));
            }
        });
        FakeRegistry { address, inner }
    }

    pub fn set(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.inner.lock().unwrap());
    }

    pub fn count(&self, prefix: &str) -> usize {
        self.inner
            .lock()
            .unwrap()
            .log
            .iter()
            .filter(|line| line.starts_with(prefix))
            .count()
    }

    pub fn add_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = Digest::of(bytes).to_string();
        self.set(|inner| {
            inner.blobs.insert(digest.clone(), bytes.to_vec());
            inner
                .owned
                .entry(repository.to_owned())
                .or_default()
                .push(digest.clone());
        });
        digest
    }

    pub fn add_manifest(
        &self,
        repository: &str,
        tag: &str,
        media_type: &str,
        value: &serde_json::Value,
    ) -> String {
        let bytes = serde_json::to_vec(value).unwrap();
        let digest = Digest::of(&bytes).to_string();
        self.set(|inner| {
            for selector in [tag, &digest] {
                let key = (repository.to_owned(), selector.to_owned());
                inner
                    .manifests
                    .insert(key, (media_type.to_owned(), bytes.clone()));
            }
        });
        digest
    }

    /// An image of layers packed with gzip; returns its manifest's digest.
    pub fn add_image(&self, repository: &str, tag: &str, tars: &[Vec<u8>]) -> String {
        let mut layers = Vec::new();
        let mut diff_ids = Vec::new();
        for tar in tars {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
            encoder.write_all(tar).unwrap();
            let packed = encoder.finish().unwrap();
            diff_ids.push(Digest::of(tar).to_string());
            let digest = self.add_blob(repository, &packed);
            layers.push(serde_json::json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": packed.len()
            }));
        }
        let config = super::config(&diff_ids.iter().map(String::as_str).collect::<Vec<_>>());
        let digest = self.add_blob(repository, &config);
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": media_type, "layers": layers,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len()},
        });
        self.add_manifest(repository, tag, media_type, &manifest)
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((key, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(key.to_lowercase(), value.to_owned());
    }
    let mut body = Vec::new();
    if let Some(len) = headers.get("content-length") {
        body.resize(len.parse().ok()?, 0);
        reader.read_exact(&mut body).ok()?;
    } else if headers.contains_key("transfer-encoding") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    }
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let decode = |text: &str| {
        text.replace("%3A", ":")
            .replace("%2F", "/")
            .replace("%2C", ",")
    };
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let query = pairs
        .map(|(key, value)| (key.to_owned(), decode(value)))
        .collect();
    Some(Request {
        method,
        path: path.to_owned(),
        query,
        headers,
        body,
    })
}

fn serve(stream: TcpStream, inner: &Mutex<Inner>, address: &str) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        let answer = answer(&request, &mut inner.lock().unwrap(), address);
        let Answer {
            status,
            mut headers,
            body,
            cut,
        } = answer;
        if status == 0 {
            return;
        }
        headers.push(format!("Content-Length: {}", body.len()));
        let text = format!("HTTP/1.1 {status} x\r\n{}\r\n\r\n", headers.join("\r\n"));
        let _ = writer.write_all(text.as_bytes());
        if request.method == "HEAD" {
            continue;
        }
        let send = cut.unwrap_or(body.len()).min(body.len());
        let _ = writer.write_all(&body[..send]);
        if cut.is_some() {
            let _ = writer.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

#[derive(Default)]
struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    cut: Option<usize>,
}

fn status(status: u16) -> Answer {
    Answer {
        status,
        ..Answer::default()
    }
}

fn error(code: u16, name: &str, message: &str) -> Answer {
    let body = serde_json::json!({"errors": [{"code": name, "message": message}]});
    Answer {
        status: code,
        body: serde_json::to_vec(&body).unwrap(),
        ..Answer::default()
    }
}

fn answer(request: &Request, inner: &mut Inner, address: &str) -> Answer {
    let range = request.headers.get("range").cloned().unwrap_or_default();
    inner
        .log
        .push(format!("{} {} {range}", request.method, request.path));
    if request.path == "/token" {
        return token(request, inner);
    }
    if let Some((code, left)) = inner.faults.busy
        && request.path != "/v2/"
    {
        inner.faults.busy = (left > 1).then_some((code, left - 1));
        let mut answer = status(code);
        answer.headers.push("Retry-After: 0".to_owned());
        return answer;
    }
    if let Some(refusal) = refuse(request, inner, address) {
        return refusal;
    }
    if request.path == "/v2/" {
        return status(200);
    }
    let rest = request.path.strip_prefix("/v2/").unwrap_or_default();
    if let Some((repository, selector)) = rest.split_once("/manifests/") {
        return manifest(request, inner, repository, selector);
    }
    if let Some((repository, id)) = rest.split_once("/blobs/uploads/") {
        return upload(request, inner, repository, id);
    }
    if let Some((repository, digest)) = rest.split_once("/blobs/") {
        return blob(request, inner, repository, digest);
    }
    if let Some((repository, _)) = rest.split_once("/tags/list") {
        return tags(request, inner, repository);
    }
    status(404)
}

fn token(request: &Request, inner: &mut Inner) -> Answer {
    let identity = String::from_utf8_lossy(&request.body).contains("refresh_token=identity");
    let basic = request
        .headers
        .get("authorization")
        .is_some_and(|h| h == "Basic dXNlcjpwYXNz");
    let scope = request.query.get("scope").cloned().unwrap_or_default();
    let form = String::from_utf8_lossy(&request.body).into_owned();
    if request.headers.contains_key("authorization") && !basic {
        return error(401, "UNAUTHORIZED", "incorrect username or password");
    }
    // Anonymous ones may only pull.
    let scope = if identity {
        form
    } else if basic {
        scope
    } else {
        scope.replace(",push", "")
    };
    inner.next += 1;
    let token = format!("token-{}", inner.next);
    let uses = inner.faults.token_uses.unwrap_or(usize::MAX);
    inner.tokens.insert(token.clone(), (scope, uses));
    let body = serde_json::to_vec(&serde_json::json!({"token": token, "expires_in": 300})).unwrap();
    Answer {
        status: 200,
        body,
        ..Answer::default()
    }
}

fn refuse(request: &Request, inner: &mut Inner, address: &str) -> Option<Answer> {
    let header = request
        .headers
        .get("authorization")
        .cloned()
        .unwrap_or_default();
    let mut refusal = error(401, "UNAUTHORIZED", "authentication required");
    match inner.auth {
        Auth::None => return None,
        Auth::Basic if header == "Basic dXNlcjpwYXNz" => return None,
        Auth::Basic => refusal
            .headers
            .push("WWW-Authenticate: Basic realm=\"test\"".to_owned()),
        Auth::Bearer => {
            let wants_push = matches!(request.method.as_str(), "POST" | "PUT" | "PATCH");
            let token = header
                .strip_prefix("Bearer ")
                .and_then(|token| inner.tokens.get_mut(token));
            if let Some((scope, uses)) = token
                && *uses > 0
                && (!wants_push || scope.contains("push"))
            {
                *uses -= 1;
                return None;
            }
            refusal.headers.push(format!(
                "WWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"test\""
            ));
        }
    }
    Some(refusal)
}

fn manifest(request: &Request, inner: &mut Inner, repository: &str, selector: &str) -> Answer {
    let key = (repository.to_owned(), selector.to_owned());
    if request.method == "PUT" {
        let media_type = request.headers["content-type"].clone();
        let digest = Digest::of(&request.body).to_string();
        for selector in [selector, digest.as_str()] {
            let key = (repository.to_owned(), selector.to_owned());
            inner
                .manifests
                .insert(key, (media_type.clone(), request.body.clone()));
        }
        return status(201);
    }
    let Some((media_type, body)) = inner.manifests.get(&key).cloned() else {
        if inner.owned.contains_key(repository) {
            return error(404, "MANIFEST_UNKNOWN", "manifest unknown");
        }
        return error(404, "NAME_UNKNOWN", "repository name not known to registry");
    };
    let mut answer = Answer {
        status: 200,
        body,
        ..Answer::default()
    };
    answer.headers.push(format!("Content-Type: {media_type}"));
    answer.headers.push(format!(
        "Docker-Content-Digest: {}",
        Digest::of(&answer.body)
    ));
    if inner.faults.wrong_manifest {
        answer.body.push(b' ');
    }
    answer
}

fn blob(request: &Request, inner: &mut Inner, repository: &str, digest: &str) -> Answer {
    let owned = inner
        .owned
        .get(repository)
        .is_some_and(|digests| digests.iter().any(|d| d == digest));
    let Some(bytes) = inner.blobs.get(digest).filter(|_| owned) else {
        return error(404, "BLOB_UNKNOWN", "blob unknown");
    };
    let mut answer = Answer {
        status: 200,
        body: bytes.clone(),
        ..Answer::default()
    };
    if inner.faults.corrupt {
        let middle = answer.body.len() / 2;
        answer.body[middle] ^= 0x55;
    }
    if request.method == "HEAD" {
        return answer;
    }
    let start = request.headers.get("range").and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse()
            .ok()
    });
    if let Some(start) =
        start.filter(|start: &usize| !inner.faults.ignore_range && *start < answer.body.len())
    {
        let total = answer.body.len();
        answer.status = 206;
        answer.headers.push(format!(
            "Content-Range: bytes {start}-{}/{total}",
            total - 1
        ));
        answer.body = answer.body[start..].to_vec();
    }
    if let Some((after, left)) = inner.faults.break_after
        && answer.body.len() > after
    {
        inner.faults.break_after = (left > 1).then_some((after, left - 1));
        answer.cut = Some(after);
    }
    answer
}

fn upload(request: &Request, inner: &mut Inner, repository: &str, id: &str) -> Answer {
    match request.method.as_str() {
        "POST" => {
            if let (Some(digest), Some(from)) =
                (request.query.get("mount"), request.query.get("from"))
            {
                let there = inner
                    .owned
                    .get(from)
                    .is_some_and(|digests| digests.contains(digest));
                if there && !inner.faults.no_mount {
                    inner
                        .owned
                        .entry(repository.to_owned())
                        .or_default()
                        .push(digest.clone());
                    inner.log.push(format!("MOUNT {digest}"));
                    return status(201);
                }
            }
            inner.next += 1;
            let id = inner.next.to_string();
            inner.uploads.insert(id.clone(), Vec::new());
            located(202, repository, &id)
        }
        "PATCH" => {
            if inner.faults.upload_breaks > 0 {
                inner.faults.upload_breaks -= 1;
                return Answer::default();
            }
            inner
                .uploads
                .get_mut(id)
                .unwrap()
                .extend_from_slice(&request.body);
            located(202, repository, id)
        }
        "PUT" => {
            let mut bytes = inner.uploads.remove(id).unwrap();
            bytes.extend_from_slice(&request.body);
            let digest = Digest::of(&bytes).to_string();
            if request.query.get("digest") != Some(&digest) {
                return error(
                    400,
                    "DIGEST_INVALID",
                    "provided digest did not match uploaded content",
                );
            }
            inner.blobs.insert(digest.clone(), bytes);
            inner
                .owned
                .entry(repository.to_owned())
                .or_default()
                .push(digest);
            status(201)
        }
        _ => status(405),
    }
}

fn located(code: u16, repository: &str, id: &str) -> Answer {
    let mut answer = status(code);
    answer.headers.push(format!(
        "Location: /v2/{repository}/blobs/uploads/{id}?state=x"
    ));
    answer
}

/// Two tags a page.
fn tags(request: &Request, inner: &mut Inner, repository: &str) -> Answer {
    let all = inner
        .manifests
        .keys()
        .filter(|(name, tag)| name == repository && !tag.contains(':'));
    let last = request.query.get("last").cloned().unwrap_or_default();
    let tags: Vec<&String> = all
        .map(|(_, tag)| tag)
        .filter(|tag| **tag > last)
        .take(2)
        .collect();
    let mut answer = Answer {
        status: 200,
        ..Answer::default()
    };
    if tags.len() == 2 {
        answer.headers.push(format!(
            "Link: </v2/{repository}/tags/list?last={}>; rel=\"next\"",
            tags[1]
        ));
    }
    answer.body =
        serde_json::to_vec(&serde_json::json!({"name": repository, "tags": tags})).unwrap();
    answer
}
