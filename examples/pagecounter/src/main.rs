//! The book's page counter: answers `Hello, you're visitor #i.` on port 8080. With `REDIS=HOST:PORT` the count lives
//! in Redis and survives the container; without it, in memory.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
const LINE_BYTES_MAX: u64 = 16 * 1024;

fn main() -> io::Result<()> {
    let redis = std::env::var("REDIS").ok();
    let visits = AtomicU64::new(0);
    let listener = TcpListener::bind("0.0.0.0:8080")?;
    println!(
        "Listening on port 8080, counting in {}",
        redis.as_deref().unwrap_or("memory")
    );
    std::thread::scope(|scope| {
        for stream in listener.incoming().flatten() {
            scope.spawn(|| {
                if let Err(error) = answer(stream, redis.as_deref(), &visits) {
                    eprintln!("visitor lost: {error}");
                }
            });
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream, redis: Option<&str>, visits: &AtomicU64) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new((&mut stream).take(LINE_BYTES_MAX));
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        // Somebody who only wants to know whether the port is open.
        return Ok(());
    }
    while line.len() > 2 {
        line.clear();
        reader.read_line(&mut line)?;
    }
    let count = match redis {
        Some(address) => increment(address),
        None => Ok(visits.fetch_add(1, Ordering::Relaxed) + 1),
    };
    let (status, text) = match count {
        Ok(count) => ("200 OK", format!("Hello, you're visitor #{count}.\n")),
        Err(error) => (
            "503 Service Unavailable",
            format!("The counter can't be reached: {error}\n"),
        ),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

/// `INCR` in the Redis protocol: a request is an array of strings, the answer `:` and a number.
fn increment(address: &str) -> io::Result<u64> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"*2\r\n$4\r\nINCR\r\n$8\r\nvisitors\r\n")?;
    let mut line = String::new();
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_line(&mut line)?;
    line.strip_prefix(':')
        .and_then(|number| number.trim_end().parse().ok())
        .ok_or_else(|| io::Error::other(format!("Redis answered {:?}", line.trim_end())))
}
