//! The log against files of its own.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;

use super::*;

fn config(path: PathBuf, max_size_bytes: Option<u64>, max_files: u32, compress: bool) -> LogConfig {
    LogConfig::JsonFile {
        path,
        max_size_bytes,
        max_files,
        compress,
        attributes: BTreeMap::new(),
    }
}

fn records(path: &std::path::Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            (
                value["log"].as_str().unwrap().to_owned(),
                value["stream"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

#[test]
fn lines_and_their_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c-json.log");
    let mut log = Log::open(config(path.clone(), None, 1, false))
        .unwrap()
        .unwrap();
    log.write(0, b"one\ntw");
    log.write(1, b"oops\n");
    log.write(0, b"o\n\n");
    log.write(0, &[b'x'; LINE_BYTES_MAX]);
    log.write(0, b"\nno newline");
    log.end(0);
    log.end(1);
    let x = "x".repeat(LINE_BYTES_MAX);
    let expected = [
        ("one\n", "stdout"),
        ("oops\n", "stderr"),
        ("two\n", "stdout"),
        ("\n", "stdout"),
        (x.as_str(), "stdout"),
        ("\n", "stdout"),
        ("no newline", "stdout"),
    ]
    .map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(records(&path), expected);
}

#[test]
fn the_record_is_byte_for_byte_dockers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c-json.log");
    let attributes = BTreeMap::from([("b".into(), "2".into()), ("a".into(), "<1>".into())]);
    let mut log = Log::open(LogConfig::JsonFile {
        path: path.clone(),
        max_size_bytes: None,
        max_files: 1,
        compress: false,
        attributes,
    })
    .unwrap()
    .unwrap();
    log.write(0, b"hi\n");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, time) = text.split_at(text.find("\"time\"").unwrap());
    assert_eq!(
        head,
        r#"{"log":"hi\n","stream":"stdout","attrs":{"a":"\u003c1\u003e","b":"2"},"#
    );
    assert!(
        time.starts_with("\"time\":\"20") && time.ends_with("Z\"}\n"),
        "{time}"
    );
}

#[test]
fn rotation_keeps_every_line_and_compresses() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c-json.log");
    let mut log = Log::open(config(path.clone(), Some(1000), 4, true))
        .unwrap()
        .unwrap();
    for number in 0..30 {
        log.write(0, format!("line {number}\n").as_bytes());
    }
    while log.is_compressing() {
        log.compress_piece();
    }
    let mut seen = Vec::new();
    for number in (1..4).rev() {
        let packed = folder.path().join(format!("c-json.log.{number}.gz"));
        let Ok(file) = File::open(packed) else {
            continue;
        };
        let mut text = String::new();
        flate2::read::GzDecoder::new(file)
            .read_to_string(&mut text)
            .unwrap();
        assert!(text.len() <= 1000);
        seen.extend(text.lines().map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            value["log"].as_str().unwrap().to_owned()
        }));
        assert!(!folder.path().join(format!("c-json.log.{number}")).exists());
    }
    seen.extend(records(&path).into_iter().map(|(line, _)| line));
    let expected: Vec<String> = (0..30).map(|n| format!("line {n}\n")).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_single_file_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c-json.log");
    let mut log = Log::open(config(path.clone(), Some(200), 1, false))
        .unwrap()
        .unwrap();
    for number in 0..10 {
        log.write(0, format!("line {number}\n").as_bytes());
    }
    assert_eq!(records(&path).last().unwrap().0, "line 9\n");
    assert!(std::fs::metadata(&path).unwrap().len() <= 200);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_removed_log_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let path = inner.join("c-json.log");
    let mut log = Log::open(config(path.clone(), None, 1, false))
        .unwrap()
        .unwrap();
    log.write(0, b"before\n");
    std::fs::remove_file(&path).unwrap();
    log.write(0, b"after\n");
    assert_eq!(
        records(&path),
        [("after\n".to_owned(), "stdout".to_owned())]
    );
    std::fs::remove_dir_all(&inner).unwrap();
    log.write(0, b"lost\nlost\n");
    std::fs::create_dir(&inner).unwrap();
    log.reopen_after_ms = 0;
    log.write(0, b"again\n");
    let lines = records(&path);
    assert!(lines[0].0.contains(" 2 log records lost"), "{lines:?}");
    assert_eq!(lines[1].0, "again\n");
}
