//! Containers of an ordinary user, in a user namespace of its own.
#![allow(clippy::unwrap_used)]

mod case;

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use case::{Case, await_end};

const USER: &str = "65534";

/// The runtime's program and a bundle for an ordinary user.
fn as_ordinary_user(case: &Case, words: &[&str]) -> (bool, String) {
    let own = Command::new("chown")
        .args(["-R", &format!("{USER}:{USER}")])
        .arg(case.folder.path())
        .status();
    assert!(own.unwrap().success());
    // Not a pipe: a container that waits to be started holds the streams of its creation.
    let file = case.path("said");
    let said = fs::File::create(&file).unwrap();
    let status = Command::new("timeout")
        .arg("60")
        // Files of the system's as this test has them.
        .args(["unshare", "--mount", "sh", "-c"])
        .arg(format!(
            "for name in passwd subuid subgid; do [ ! -f {0}/$name ] || mount --bind {0}/$name /etc/$name; done; exec \"$@\"",
            case.path("etc").display()
        ))
        .args([
            "sh",
            "setpriv",
            "--reuid",
            USER,
            "--regid",
            USER,
            "--clear-groups",
        ])
        .arg(case.path("runtime"))
        .arg("--root")
        .arg(case.path("state"))
        .args(words)
        .current_dir(case.folder.path())
        .stdin(Stdio::null())
        .stdout(said.try_clone().unwrap())
        .stderr(said)
        .status()
        .unwrap();
    (status.success(), fs::read_to_string(file).unwrap())
}

/// Where that user can reach it.
fn copy_program(case: &Case) {
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_wharf-runtime"))
        .arg(case.path("runtime"))
        .status();
    assert!(copied.unwrap().success());
}

#[test]
fn an_ordinary_user_runs_containers() {
    let case = Case::new(&["/bin/true"]);
    copy_program(&case);
    fs::remove_file(case.path("config.json")).unwrap();
    let call = |words: &[&str]| {
        let (done, said) = as_ordinary_user(&case, words);
        assert!(done, "{words:?}: {said}");
        said
    };
    call(&["spec", "--rootless"]);
    case.configure(|spec| {
        spec["process"]["terminal"] = json!(false);
        spec["process"]["args"] = json!(["/bin/sh", "-c", "id -u; cat /proc/self/uid_map"]);
    });
    let out = call(&["run", &case.id]);
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "65534", "1"]);
    case.configure(|spec| {
        spec["process"]["args"] = json!(["/bin/sh", "-c", "sleep 1000 <&- >&- 2>&-"])
    });
    call(&["create", &case.id]);
    call(&["start", &case.id]);
    assert!(call(&["exec", &case.id, "/bin/id"]).contains("uid=0"));
    let init = case.init();
    call(&["kill", &case.id, "KILL"]);
    await_end(&init);
    call(&["delete", &case.id]);
    assert_eq!(call(&["list", "--quiet"]), "");
}

#[test]
fn an_ordinary_user_maps_the_ids_that_were_given_to_it() {
    let case = Case::new(&["/bin/true"]);
    copy_program(&case);
    for file in ["/etc/subuid", "/etc/subgid"] {
        // A file to be covered must be there.
        fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(file)
            .unwrap();
    }
    fs::create_dir(case.path("etc")).unwrap();
    let user = "user:x:65534:65534::/:/bin/sh\n";
    fs::write(case.path("etc/passwd"), user).unwrap();
    fs::write(case.path("etc/subuid"), "user:200000:1000\n").unwrap();
    fs::write(case.path("etc/subgid"), "user:300000:1000\n").unwrap();
    fs::remove_file(case.path("config.json")).unwrap();
    let (done, said) = as_ordinary_user(&case, &["spec", "--rootless"]);
    assert!(done, "{said}");
    let mapped = |first: u32| {
        json!([
            {"containerID": 0, "hostID": 65534, "size": 1},
            {"containerID": 1, "hostID": first, "size": 1000},
        ])
    };
    case.configure(|spec| {
        spec["process"]["terminal"] = json!(false);
        let script = "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map";
        spec["process"]["args"] = json!(["/bin/sh", "-c", script]);
        spec["process"]["user"] = json!({"uid": 7, "gid": 8});
        spec["linux"]["uidMappings"] = mapped(200_000);
        spec["linux"]["gidMappings"] = mapped(300_000);
    });
    let (done, said) = as_ordinary_user(&case, &["run", &case.id]);
    assert!(done, "{said}");
    let words: Vec<&str> = said.split_whitespace().collect();
    let expected = "7 8 0 65534 1 1 200000 1000 0 65534 1 1 300000 1000";
    assert_eq!(words.join(" "), expected);
    // What was not given is refused.
    case.configure(|spec| spec["linux"]["uidMappings"] = mapped(400_000));
    let (done, said) = as_ordinary_user(&case, &["run", &case.id]);
    assert!(!done && said.contains("newuidmap refuses"), "{said}");
}
