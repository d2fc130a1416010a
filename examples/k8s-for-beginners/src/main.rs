//! The book's web server: greets on port 8080 and logs who asked.
#![forbid(unsafe_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const GREETING: &str = "Hello Kubernetes Beginners!";
const REQUEST_BYTES_MAX: u64 = 16 * 1024;

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:8080")?;
    println!("Listening on port 8080");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            // A visitor that breaks off concerns nobody else.
            let _ = answer(stream);
        });
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut reader = BufReader::new((&mut stream).take(REQUEST_BYTES_MAX));
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    println!("Ping from {}", stream.peer_addr()?);
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{GREETING}",
        GREETING.len()
    )
}
