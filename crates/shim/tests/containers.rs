//! Real containers from a busybox root file system, each under a real supervisor.
#![allow(clippy::unwrap_used)]

mod bundle;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use bundle::{Bundle, frames, log_lines, streams};
use serde_json::json;
use wharf_shim::client::{self, Error, ExecLaunch, Idle, Notice, PortSocket, Supervisor};
use wharf_shim::protocol::LogConfig;

/// Waits for the container's end; whatever other news there was before it comes back as well.
fn exit(supervisor: &Supervisor) -> (i32, bool, Vec<Notice>) {
    let mut others = Vec::new();
    loop {
        match supervisor
            .next_notice()
            .unwrap()
            .expect("the supervisor ended without a word")
        {
            Notice::Exit(record) => return (record.exit_code, record.oom_killed, others),
            other => others.push(other),
        }
    }
}

#[test]
fn output_goes_to_the_log_and_the_exit_record_follows() {
    let bundle = Bundle::new(&["sh", "-c", "echo out; echo err >&2; printf tail; exit 7"]);
    let supervisor = Idle::spawn().unwrap().launch(bundle.launch()).unwrap();
    assert_eq!(exit(&supervisor).0, 7);
    assert!(
        supervisor.next_notice().unwrap().is_none(),
        "the supervisor ends after its container"
    );
    let lines = log_lines(&bundle.log());
    let of = |stream: &str| -> String {
        lines
            .iter()
            .filter(|l| l["stream"] == stream)
            .map(|l| l["log"].as_str().unwrap())
            .collect()
    };
    assert_eq!(
        (of("stdout").as_str(), of("stderr").as_str()),
        ("out\ntail", "err\n")
    );
    let record = client::exit_record(&bundle.run_dir()).unwrap().unwrap();
    assert_eq!(record.exit_code, 7);
    assert_eq!(record.started_at, supervisor.started_at);
    assert!(!bundle.run_dir().join("shim.sock").exists());
    assert!(Supervisor::connect(&bundle.run_dir()).unwrap().is_none());
    bundle.assert_no_cgroup();
}

#[test]
fn the_supervisor_is_nobodys_child_and_says_whose_it_is() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    let supervisor = Idle::spawn().unwrap().launch(bundle.launch()).unwrap();
    let read =
        |file: &str| fs::read_to_string(format!("/proc/{}/{file}", supervisor.shim_pid)).unwrap();
    assert_eq!(read("comm"), "wharf-shim\n");
    let short: String = bundle.id().chars().take(12).collect();
    assert_eq!(
        read("cmdline").trim_end_matches('\0'),
        format!("wharf-shim\0{short}")
    );
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    assert_ne!(fields[1], std::process::id().to_string(), "parent");
    assert_eq!(fields[3], supervisor.shim_pid.to_string(), "session");
    let cwd = fs::read_link(format!("/proc/{}/cwd", supervisor.shim_pid)).unwrap();
    assert_eq!(cwd, Path::new("/"));
    let parent = fs::read_to_string(format!("/proc/{}/stat", supervisor.pid)).unwrap();
    let parent = parent
        .rsplit_once(") ")
        .unwrap()
        .1
        .split(' ')
        .nth(1)
        .unwrap()
        .to_owned();
    assert_eq!(
        parent,
        supervisor.shim_pid.to_string(),
        "the container is the supervisor's child"
    );
    end(&supervisor);
}

#[test]
fn nothing_of_the_supervisor_reaches_the_container() {
    let script = "grep ^Sig /proc/self/status; ls /proc/self/fd; ulimit -n; umask";
    let bundle = Bundle::new(&["sh", "-c", script]);
    let supervisor = Idle::spawn().unwrap().launch(bundle.launch()).unwrap();
    assert_eq!(exit(&supervisor).0, 0);
    let lines = log_lines(&bundle.log());
    let lines: Vec<&str> = lines
        .iter()
        .map(|l| l["log"].as_str().unwrap().trim_end())
        .collect();
    for name in ["SigBlk", "SigIgn", "SigCgt"] {
        let clear = format!("{name}:\t0000000000000000");
        assert!(lines.contains(&clear.as_str()), "{lines:?}");
    }
    // 3 is the folder that `ls` reads.
    let (_, rest) = lines.split_at(lines.iter().position(|l| *l == "0").unwrap());
    assert_eq!(rest[..4], ["0", "1", "2", "3"]);
    assert_eq!(rest.last(), Some(&"0022"));
}

#[test]
fn failures_to_start_carry_dockers_exit_codes_and_leave_nothing() {
    for (args, code) in [(["/no/such/program"], 127), (["/etc/passwd"], 126)] {
        let bundle = Bundle::new(&args);
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut launch = bundle.launch();
        launch.attached.push((near, streams()));
        let error = Idle::spawn().unwrap().launch(launch).unwrap_err();
        match error {
            Error::Start { message, exit_code } => {
                assert_eq!(exit_code, code, "{message}");
                assert!(message.contains(args[0]), "{message}");
            }
            Error::Lost { .. } => panic!("{error:?}"),
        }
        let mut rest = Vec::new();
        far.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
        assert!(client::exit_record(&bundle.run_dir()).unwrap().is_none());
        assert!(!bundle.run_dir().join("shim.sock").exists());
        bundle.assert_no_cgroup();
    }
}

#[test]
fn an_idle_supervisor_ends_with_its_daemon() {
    bundle::install();
    let idle = Idle::spawn().unwrap();
    let pidfd = bundle::peer(&idle);
    drop(idle);
    bundle::wait_readable(&pidfd);
}

#[test]
fn clients_attached_before_the_start_miss_nothing() {
    let bundle = Bundle::new(&["sh", "-c", "seq 1 200000; echo done >&2"]);
    let (near, far) = UnixStream::pair().unwrap();
    let mut launch = bundle.launch();
    launch.attached.push((near, streams()));
    let supervisor = Idle::spawn().unwrap().launch(launch).unwrap();
    let (out, err) = frames(far);
    let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert!(
        out == expected.as_bytes(),
        "{} of {} bytes",
        out.len(),
        expected.len()
    );
    assert_eq!(err, b"done\n");
    assert_eq!(exit(&supervisor).0, 0);
    let logged: String = log_lines(&bundle.log())
        .iter()
        .filter(|l| l["stream"] == "stdout")
        .map(|l| l["log"].as_str().unwrap().to_owned())
        .collect();
    assert!(logged == expected);
}

#[test]
fn heavy_writing_survives_rotation_complete() {
    // About 100 MB in 13 million lines.
    let bundle = Bundle::new(&["seq", "1", "13000000"]);
    let mut launch = bundle.launch();
    launch.log = LogConfig::JsonFile {
        path: bundle.log(),
        max_size_bytes: Some(100_000_000),
        max_files: 100,
        compress: false,
        attributes: BTreeMap::new(),
    };
    let supervisor = Idle::spawn().unwrap().launch(launch).unwrap();
    assert_eq!(exit(&supervisor).0, 0);
    let mut next = 1u64;
    for number in (0..100).rev() {
        let name = if number == 0 {
            bundle.log()
        } else {
            bundle.log().with_extension(format!("log.{number}"))
        };
        let Ok(text) = fs::read_to_string(&name) else {
            continue;
        };
        assert!(text.len() <= 100_000_000);
        for line in text.lines() {
            let rest = line.strip_prefix("{\"log\":\"").unwrap();
            let end = rest.find('\\').unwrap();
            assert_eq!(rest[..end].parse::<u64>().unwrap(), next);
            assert!(
                rest[end..].starts_with("\\n\",\"stream\":\"stdout\",\"time\":\"20")
                    && rest.ends_with("Z\"}"),
                "{line}"
            );
            next += 1;
        }
        fs::remove_file(name).unwrap();
    }
    assert_eq!(next, 13_000_001);
}

#[test]
fn input_reaches_the_process_and_its_end_too() {
    let bundle = Bundle::new(&["sh", "-c", "cat; echo end"]);
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut launch = bundle.launch();
    (launch.open_stdin, launch.stdin_once) = (true, true);
    launch.attached.push((near, streams()));
    let supervisor = Idle::spawn().unwrap().launch(launch).unwrap();
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let out = std::thread::scope(|scope| {
        let reader = far.try_clone().unwrap();
        let out = scope.spawn(|| frames(reader).0);
        far.write_all(&sent).unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        out.join().unwrap()
    });
    assert!(out.strip_suffix(b"end\n").unwrap() == sent);
    assert_eq!(exit(&supervisor).0, 0);
}

#[test]
fn input_stays_open_after_a_client_has_left() {
    let bundle = Bundle::new(&["cat"]);
    let mut launch = bundle.launch();
    launch.open_stdin = true;
    let supervisor = Idle::spawn().unwrap().launch(launch).unwrap();
    for word in ["first\n", "second\n"] {
        let (near, mut far) = UnixStream::pair().unwrap();
        supervisor.attach(near, streams()).unwrap();
        far.write_all(word.as_bytes()).unwrap();
        assert_eq!(
            bundle::frame(&mut far).unwrap(),
            (1, word.as_bytes().to_vec())
        );
    }
    supervisor.signal(15).unwrap();
    end(&supervisor);
}

#[test]
fn a_slow_client_slows_the_container_and_a_dead_one_does_not() {
    let bundle = Bundle::new(&["sh", "-c", "seq 1 1000000; sleep 1000"]);
    let (near, far) = UnixStream::pair().unwrap();
    let mut launch = bundle.launch();
    launch.attached.push((near, streams()));
    let supervisor = Idle::spawn().unwrap().launch(launch).unwrap();
    // Nobody reads: sooner or later the log stands still. A second client that is served shows that.
    let (near, mut other) = UnixStream::pair().unwrap();
    supervisor.attach(near, streams()).unwrap();
    other.set_nonblocking(false).unwrap();
    let stalled = bundle::log_stands_still(&bundle.log());
    assert!(
        stalled < 7_000_000,
        "{stalled} bytes of output were taken for a client that read none"
    );
    drop(far);
    // Every line comes now.
    let mut seen = Vec::new();
    while !seen.ends_with(b"\n1000000\n") {
        seen.extend(bundle::frame(&mut other).unwrap().1);
    }
    supervisor.signal(9).unwrap();
    exit(&supervisor);
    let lines = log_lines(&bundle.log());
    assert_eq!(lines.last().unwrap()["log"], "1000000\n");
    assert_eq!(lines.len(), 1_000_000);
}

#[test]
fn a_terminal_has_a_size_and_raw_streams() {
    let mut bundle = Bundle::new(&[
        "sh",
        "-c",
        "stty size; read line; stty size; echo got $line",
    ]);
    bundle.spec["process"]["terminal"] = json!(true);
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut launch = bundle.launch();
    (launch.open_stdin, launch.stdin_once, launch.console_size) = (true, true, Some((30, 100)));
    launch.attached.push((near, streams()));
    let supervisor = Idle::spawn().unwrap().launch(launch).unwrap();
    bundle::read_until(&mut far, "30 100\r\n");
    supervisor.resize(41, 123).unwrap();
    far.write_all(b"hello\n").unwrap();
    let rest = bundle::read_to_end(far);
    assert!(
        rest.contains("41 123\r\n") && rest.ends_with("got hello\r\n"),
        "{rest:?}"
    );
    assert_eq!(exit(&supervisor).0, 0);
    assert_eq!(log_lines(&bundle.log())[0]["log"], "30 100\r\n");
}

fn ended(exec_id: &str, exit_code: i32) -> Notice {
    Notice::ExecExit {
        exec_id: exec_id.into(),
        exit_code,
    }
}

/// Kills the container and waits for that.
fn end(supervisor: &Supervisor) {
    supervisor.signal(9).unwrap();
    assert_eq!(exit(supervisor).0, 137);
}

#[test]
fn executed_processes_have_streams_terminals_and_exit_codes() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    let supervisor = Idle::spawn().unwrap().launch(bundle.launch()).unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    let pid = supervisor
        .exec(ExecLaunch {
            exec_id: "one".into(),
            process: bundle.process(&["sh", "-c", "cat; echo err >&2; exit 3"], false),
            open_stdin: true,
            console_size: None,
            attached: Some((near, streams())),
        })
        .unwrap();
    assert!(pid > 0);
    far.write_all(b"to exec").unwrap();
    far.shutdown(Shutdown::Write).unwrap();
    assert_eq!(frames(far), (b"to exec".to_vec(), b"err\n".to_vec()));
    assert_eq!(supervisor.next_notice().unwrap().unwrap(), ended("one", 3));
    end(&supervisor);
}

#[test]
fn executed_processes_may_have_a_terminal_or_nobody_watching() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    let supervisor = Idle::spawn().unwrap().launch(bundle.launch()).unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    supervisor
        .exec(ExecLaunch {
            exec_id: "two".into(),
            process: bundle.process(
                &["sh", "-c", "stty size; read x; stty size; kill -9 $$"],
                true,
            ),
            open_stdin: true,
            console_size: Some((20, 60)),
            attached: Some((near, streams())),
        })
        .unwrap();
    bundle::read_until(&mut far, "20 60\r\n");
    supervisor.resize_exec("two", 21, 61).unwrap();
    far.write_all(b"\n").unwrap();
    assert!(bundle::read_to_end(far).contains("21 61\r\n"));
    assert_eq!(
        supervisor.next_notice().unwrap().unwrap(),
        ended("two", 137)
    );

    let missing = ExecLaunch {
        exec_id: "three".into(),
        process: bundle.process(&["nothing-like-that"], false),
        open_stdin: false,
        console_size: None,
        attached: None,
    };
    assert!(matches!(
        supervisor.exec(missing),
        Err(Error::Start { exit_code: 127, .. })
    ));
    assert!(
        matches!(supervisor.resize(1, 1), Err(Error::Start { .. })),
        "there is no terminal"
    );
    // Detached: nobody sees it, its end is told all the same.
    supervisor
        .exec(ExecLaunch {
            exec_id: "four".into(),
            process: bundle.process(&["sh", "-c", "echo lost; exit 5"], false),
            open_stdin: false,
            console_size: None,
            attached: None,
        })
        .unwrap();
    assert_eq!(supervisor.next_notice().unwrap().unwrap(), ended("four", 5));
    end(&supervisor);
}

#[test]
fn the_container_outlives_the_daemon_and_is_found_again() {
    let bundle = Bundle::new(&["sh", "-c", "echo before; read go; echo after; exit 42"]);
    let mut launch = bundle.launch();
    launch.open_stdin = true;
    let first = Idle::spawn().unwrap().launch(launch).unwrap();
    let (pid, started_at) = (first.pid, first.started_at.clone());
    drop(first);
    let second = Supervisor::connect(&bundle.run_dir()).unwrap().unwrap();
    let third = Supervisor::connect(&bundle.run_dir()).unwrap().unwrap();
    assert_eq!((second.pid, &second.started_at), (pid, &started_at));
    let (near, mut far) = UnixStream::pair().unwrap();
    second.attach(near, streams()).unwrap();
    drop(second);
    far.write_all(b"go\n").unwrap();
    assert_eq!(exit(&third).0, 42);
    assert_eq!(
        client::exit_record(&bundle.run_dir())
            .unwrap()
            .unwrap()
            .exit_code,
        42
    );
    let logged: Vec<_> = log_lines(&bundle.log())
        .iter()
        .map(|l| l["log"].clone())
        .collect();
    assert_eq!(logged, ["before\n", "after\n"]);
}

#[test]
fn news_waits_for_a_daemon_that_is_away() {
    let bundle = Bundle::new(&["cat"]);
    let mut launch = bundle.launch();
    launch.open_stdin = true;
    let supervisor = Idle::spawn().unwrap().launch(launch).unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    supervisor
        .exec(ExecLaunch {
            exec_id: "away".into(),
            process: bundle.process(&["sh", "-c", "read x; exit 9"], false),
            open_stdin: true,
            console_size: None,
            attached: Some((near, streams())),
        })
        .unwrap();
    drop(supervisor);
    far.write_all(b"\n").unwrap();
    bundle::read_to_end(far);
    let back = Supervisor::connect(&bundle.run_dir()).unwrap().unwrap();
    let expected = Notice::ExecExit {
        exec_id: "away".into(),
        exit_code: 9,
    };
    assert_eq!(back.next_notice().unwrap().unwrap(), expected);
    back.signal(9).unwrap();
    exit(&back);
}

#[test]
fn a_killed_supervisor_is_noticed_and_its_container_buried() {
    let bundle = Bundle::new(&["sh", "-c", "sleep 1000 & sleep 1000"]);
    let supervisor = Idle::spawn().unwrap().launch(bundle.launch()).unwrap();
    let container = bundle::pidfd(supervisor.pid);
    bundle::kill(supervisor.shim_pid);
    assert!(supervisor.next_notice().unwrap().is_none());
    assert!(Supervisor::connect(&bundle.run_dir()).unwrap().is_none());
    assert!(client::exit_record(&bundle.run_dir()).unwrap().is_none());
    let record = client::bury(&bundle.run_dir()).unwrap().unwrap();
    assert_eq!(record.exit_code, 137);
    bundle::wait_readable(&container);
    assert_eq!(
        client::exit_record(&bundle.run_dir()).unwrap().unwrap(),
        record
    );
    bundle.assert_no_cgroup();
}

#[test]
fn a_shared_pid_namespace_is_swept_when_init_ends() {
    let mut bundle = Bundle::new(&["sh", "-c", "sleep 1000 & echo $!; exit 4"]);
    let namespaces = bundle.spec["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|n| n["type"] != "pid");
    let supervisor = Idle::spawn().unwrap().launch(bundle.launch()).unwrap();
    assert_eq!(exit(&supervisor).0, 4);
    let left: i32 = log_lines(&bundle.log())[0]["log"]
        .as_str()
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let state = fs::read_to_string(format!("/proc/{left}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
    bundle.assert_no_cgroup();
}

#[test]
fn an_out_of_memory_kill_is_recorded() {
    let mut bundle = Bundle::new(&["sh", "-c", "a=x; while :; do a=$a$a; done"]);
    bundle.spec["linux"]["resources"]["memory"] = json!({"limit": 20 << 20, "swap": 20 << 20});
    let supervisor = Idle::spawn().unwrap().launch(bundle.launch()).unwrap();
    let (code, oom_killed, others) = exit(&supervisor);
    assert_eq!((code, oom_killed), (137, true));
    assert_eq!(others, [Notice::Oom]);
}

#[test]
fn a_full_disk_drops_output_counts_it_and_never_stops_the_container() {
    let disk = bundle::SmallDisk::new(256 << 10);
    let bundle = Bundle::new(&["sh", "-c", "seq 1 100000; read x; echo again; read x"]);
    let mut launch = bundle.launch();
    launch.open_stdin = true;
    launch.log = LogConfig::JsonFile {
        path: disk.path().join("c-json.log"),
        max_size_bytes: None,
        max_files: 1,
        compress: false,
        attributes: BTreeMap::new(),
    };
    let (near, mut far) = UnixStream::pair().unwrap();
    launch.attached.push((near, streams()));
    let supervisor = Idle::spawn().unwrap().launch(launch).unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"100000\n") {
        seen.extend(bundle::frame(&mut far).unwrap().1);
    }
    let log = disk.path().join("c-json.log");
    let kept = log_lines(&log).len();
    // Space is back.
    fs::File::options()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(0)
        .unwrap();
    far.write_all(b"\n").unwrap();
    assert_eq!(bundle::frame(&mut far).unwrap().1, b"again\n");
    far.write_all(b"\n").unwrap();
    assert_eq!(exit(&supervisor).0, 0);
    let lines: Vec<String> = log_lines(&log)
        .iter()
        .map(|l| l["log"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains(&format!(" {} log records lost", 100_000 - kept)),
        "{lines:?}, kept {kept}"
    );
    assert_eq!(lines[1], "again\n");
}

#[test]
fn connections_and_datagrams_are_carried_to_the_target() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let target_udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let published = TcpListener::bind("[::1]:0").unwrap();
    let published_udp = UdpSocket::bind("[::1]:0").unwrap();
    let (at, at_udp) = (
        published.local_addr().unwrap(),
        published_udp.local_addr().unwrap(),
    );
    let bundle = Bundle::new(&["sleep", "1000"]);
    let mut launch = bundle.launch();
    launch.ports = vec![
        PortSocket {
            socket: OwnedFd::from(published),
            target: target.local_addr().unwrap(),
            udp: false,
        },
        PortSocket {
            socket: OwnedFd::from(published_udp),
            target: target_udp.local_addr().unwrap(),
            udp: true,
        },
    ];
    let supervisor = Idle::spawn().unwrap().launch(launch).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                let (mut stream, _) = target.accept().unwrap();
                // Half-close: everything is read before anything is answered.
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                stream.write_all(&all).unwrap();
            }
        });
        let sent: Vec<u8> = (0..2_000_000u32).map(|n| (n % 253) as u8).collect();
        for _ in 0..20 {
            let mut stream = TcpStream::connect(at).unwrap();
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut back = Vec::new();
            stream.read_to_end(&mut back).unwrap();
            assert!(back == sent);
        }
    });
    let senders: Vec<UdpSocket> = (0..3)
        .map(|_| UdpSocket::bind("[::1]:0").unwrap())
        .collect();
    for (number, sender) in senders.iter().enumerate() {
        sender
            .send_to(format!("ping {number}").as_bytes(), at_udp)
            .unwrap();
        let mut buffer = [0; 64];
        let (length, from) = target_udp.recv_from(&mut buffer).unwrap();
        target_udp.send_to(&buffer[..length], from).unwrap();
    }
    for (number, sender) in senders.iter().enumerate() {
        let mut buffer = [0; 64];
        let (length, _) = sender.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], format!("ping {number}").as_bytes());
    }
    supervisor.signal(9).unwrap();
    exit(&supervisor);
    assert!(TcpStream::connect(at).is_err(), "the port is free again");
}
