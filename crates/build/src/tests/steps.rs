//! Output, configuration, history, cache and order of steps.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{Kit, sink, without_ids};

fn config(kit: &Kit, image: &str) -> Value {
    serde_json::from_slice(&kit.images.resolve(image).unwrap().config_bytes).unwrap()
}

fn history(kit: &Kit, image: &str) -> Vec<String> {
    let config = config(kit, image);
    let lines = config["history"].as_array().unwrap().iter();
    lines
        .map(|line| line["created_by"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn speaks_as_the_classic_builder() {
    let kit = Kit::new();
    kit.file("a", "x");
    let text = "ARG V=base\nFROM $V AS one\nCOPY a /\nRUN echo  hi \\\n  && true\nWORKDIR w\nCMD [\"sh\"]\n";
    let mut request = kit.request(text);
    request.tags = vec!["result".to_owned(), "other:1".to_owned()];
    request
        .build_args
        .insert("NOPE".to_owned(), Some("1".to_owned()));
    request.labels.insert("l".to_owned(), "$v".to_owned());
    let (id, said) = kit.build_with(request.clone()).await;
    let id = id.unwrap();
    let expected = "Step 1/7 : ARG V=base\nStep 2/7 : FROM $V AS one\n ---> ID\nStep 3/7 : COPY a /\n ---> ID\nStep 4/7 : RUN echo  hi   && true\n ---> Running in ID\nRemoving intermediate container ID\n ---> ID\nStep 5/7 : WORKDIR w\n ---> Running in ID\nRemoving intermediate container ID\n ---> ID\nStep 6/7 : CMD [\"sh\"]\n ---> Running in ID\nRemoving intermediate container ID\n ---> ID\nStep 7/7 : LABEL l=$v\n ---> Running in ID\nRemoving intermediate container ID\n ---> ID\n[Warning] One or more build-args [NOPE] were not consumed\nSuccessfully built ID\nSuccessfully tagged result:latest\nSuccessfully tagged other:1\n";
    assert_eq!(without_ids(&said), expected);
    assert_eq!(kit.images.resolve("other:1").unwrap().id, id);
    let lines = history(&kit, &id);
    assert!(lines[1].starts_with("/bin/sh -c #(nop) COPY file:") && lines[1].ends_with(" in / "));
    let expected = [
        "/bin/sh -c echo  hi   && true",
        "/bin/sh -c #(nop) WORKDIR /w",
        "/bin/sh -c #(nop)  CMD [\"sh\"]",
        "/bin/sh -c #(nop)  LABEL l=$v",
    ];
    assert_eq!(lines[2..], expected);
    let config = config(&kit, &id);
    assert_eq!(config["config"]["Labels"], json!({"l": "$v"}));
    assert_eq!(config["config"]["WorkingDir"], "/w");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 4);
    assert_eq!(config["history"][4]["empty_layer"], true);
    // All the way down to the base, each step is its successor's parent.
    let mut depth = 0;
    let mut image = kit.images.resolve(&id).unwrap();
    while let Some(parent) = &image.parent {
        image = kit.images.resolve(parent).unwrap();
        depth += 1;
    }
    assert_eq!((depth, image.tags), (5, vec!["base:latest".to_owned()]));
    // Again, also after a restart: everything is known.
    for builder in [kit.builder.clone(), kit.reopened()] {
        let said = Arc::new(Mutex::new(String::new()));
        assert_eq!(
            builder.build(request.clone(), sink(&said)).await.unwrap(),
            id
        );
        assert_eq!(
            said.lock().unwrap().matches(" ---> Using cache\n").count(),
            5
        );
    }
    assert_eq!(kit.recorder.ran.lock().unwrap().len(), 1);
    request.no_cache = true;
    assert_ne!(kit.build_with(request).await.0.unwrap(), id);
    assert_eq!(kit.recorder.ran.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn content_decides_not_time() {
    let kit = Kit::new();
    kit.file("d/a", "x");
    let text = "FROM base\nCOPY d /d\n";
    let first = kit.build(text).await.0.unwrap();
    let file = std::fs::File::options()
        .write(true)
        .open(kit.context.join("d/a"))
        .unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(kit.build(text).await.0.unwrap(), first);
    kit.file("d/a", "y");
    let second = kit.build(text).await.0.unwrap();
    assert_ne!(second, first);
    let path = kit.context.join("d/a");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let third = kit.build(text).await.0.unwrap();
    assert_ne!(third, second);
    kit.file("d/b", "");
    assert_ne!(kit.build(text).await.0.unwrap(), third);
    std::fs::remove_file(kit.context.join("d/b")).unwrap();
    assert_eq!(kit.build(text).await.0.unwrap(), third);
    kit.file(".dockerignore", "**/ignored\n");
    kit.file("d/ignored", "any");
    assert_eq!(kit.build(text).await.0.unwrap(), third);
}

#[tokio::test]
async fn arguments_reach_run_and_its_key() {
    let kit = Kit::new();
    let text = "ARG G=g\nFROM base\nENV E=image\nARG A=1\nARG G\nARG E=arg\nARG U\nRUN x\n";
    let mut request = kit.request(text);
    request
        .build_args
        .insert("HTTP_PROXY".to_owned(), Some("p".to_owned()));
    let first = kit.build_with(request.clone()).await.0.unwrap();
    assert_eq!(
        history(&kit, &first).last().unwrap(),
        "|2 A=1 G=g /bin/sh -c x"
    );
    assert_eq!(
        kit.recorder.ran.lock().unwrap()[0].env,
        ["A=1", "G=g", "HTTP_PROXY=p"]
    );
    request
        .build_args
        .insert("HTTP_PROXY".to_owned(), Some("q".to_owned()));
    assert_eq!(kit.build_with(request.clone()).await.0.unwrap(), first);
    request
        .build_args
        .insert("A".to_owned(), Some("2".to_owned()));
    let second = kit.build_with(request).await.0.unwrap();
    assert_eq!(
        history(&kit, &second).last().unwrap(),
        "|2 A=2 G=g /bin/sh -c x"
    );
}

#[tokio::test]
async fn failures_name_the_command_and_leave_nothing() {
    let kit = Kit::new();
    let images = kit.images.list(true).unwrap().len();
    assert_eq!(
        kit.fails("FROM base\nRUN exit 3").await,
        "The command '/bin/sh -c exit 3' returned a non-zero code: 3"
    );
    assert_eq!(
        kit.fails("FROM base\nRUN [\"exit 4\"]").await,
        "The command 'exit 4' returned a non-zero code: 4"
    );
    assert_eq!(
        kit.fails("FROM scratch").await,
        "No image was generated. Is your Dockerfile empty?"
    );
    assert_eq!(
        kit.fails("FROM base\nWORKDIR /etc/passwd").await,
        "Cannot mkdir: /etc/passwd is not a directory"
    );
    assert_eq!(
        kit.fails("FROM ${X}").await,
        "base name (${X}) should not be blank"
    );
    assert_eq!(
        kit.fails("FROM base\nEXPOSE foo").await,
        "Invalid containerPort: foo"
    );
    assert_eq!(
        kit.fails("FROM base\nENV A=${x").await,
        "failed to process \"${x\": missing ':' in substitution"
    );
    assert_eq!(
        kit.fails("FROM base\nCOPY --from=5 /x /").await,
        "invalid from flag value 5: index out of bounds"
    );
    assert!(
        kit.fails("FROM base\nADD http://127.0.0.1:1/x /")
            .await
            .starts_with("ADD failed: http://127.0.0.1:1/x is a remote source")
    );
    assert_eq!(kit.images.list(true).unwrap().len(), images);
}

#[tokio::test]
async fn stages_that_are_needed_run_in_order_of_output() {
    let kit = Kit::new();
    kit.file("a", "x");
    let text = "FROM base AS unused\nRUN exit 1\nFROM base AS one\nRUN first\nFROM base AS two\nRUN second\nFROM scratch\nCOPY --from=one /ran /one\nCOPY --from=2 /ran /two\nCMD [\"x\"]\nFROM base\nRUN exit 1\n";
    let mut request = kit.request(text);
    request.target = Some("3".to_owned());
    let (id, said) = kit.build_with(request.clone()).await;
    let id = id.unwrap();
    let steps: Vec<&str> = said
        .lines()
        .filter(|line| line.starts_with("Step"))
        .collect();
    let expected = [
        "Step 1/8 : FROM base AS one",
        "Step 2/8 : RUN first",
        "Step 3/8 : FROM base AS two",
        "Step 4/8 : RUN second",
        "Step 5/8 : FROM scratch",
        "Step 6/8 : COPY --from=one /ran /one",
        "Step 7/8 : COPY --from=2 /ran /two",
        "Step 8/8 : CMD [\"x\"]",
    ];
    assert_eq!(steps, expected);
    let files = kit.files(&id);
    assert_eq!(files.keys().collect::<Vec<_>>(), ["/one", "/two"]);
    assert!(files["/one"].ends_with("first") && files["/two"].ends_with("second"));
    assert_eq!(kit.build_with(request).await.0.unwrap(), id);
    assert_eq!(kit.recorder.ran.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn the_same_step_of_two_stages_is_done_once() {
    let kit = Kit::new();
    let text = "FROM base AS a\nRUN same\nFROM base AS b\nRUN same\nFROM scratch\nCOPY --from=a /ran /a\nCOPY --from=b /ran /b\n";
    kit.build(text).await.0.unwrap();
    assert_eq!(kit.recorder.ran.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn triggers_run_where_they_are_built_on() {
    let kit = Kit::new();
    kit.file("a", "x");
    let mut request = kit.request("FROM base\nONBUILD COPY a /b\nONBUILD RUN trigger\n");
    request.tags = vec!["onb".to_owned()];
    kit.build_with(request).await.0.unwrap();
    assert!(kit.recorder.ran.lock().unwrap().is_empty());
    let (id, said) = kit.build("FROM onb\nRUN own\n").await;
    let id = id.unwrap();
    let expected = "Step 1/2 : FROM onb\n# Executing 2 build triggers\n ---> Running in ID\nRemoving intermediate container ID\n ---> ID\nStep 2/2";
    assert!(without_ids(&said).starts_with(expected), "{said}");
    assert!(kit.files(&id)["/b"].ends_with(" x"));
    assert_eq!(config(&kit, &id)["config"]["OnBuild"], Value::Null);
    let ran = kit.recorder.ran.lock().unwrap();
    let words: Vec<_> = ran
        .iter()
        .map(|command| command.words[2].as_str())
        .collect();
    assert_eq!(words, ["trigger", "own"]);
}

#[tokio::test]
async fn heredocs_are_files_and_scripts() {
    let kit = Kit::new();
    let text = "FROM base\nARG A=1\nCOPY <<one <<'two' /d/\n$A\none\n$A\ntwo\nRUN <<E\nset -e\nx $A\nE\nRUN cat <<E >/y\nz\nE\n";
    let id = kit.build(text).await.0.unwrap();
    let files = kit.files(&id);
    assert_eq!(files["/d/one"], "644 0:0 1\n");
    assert_eq!(files["/d/two"], "644 0:0 $A\n");
    let ran = kit.recorder.ran.lock().unwrap();
    assert_eq!(ran[0].words[2], "set -e\nx $A\n");
    assert_eq!(ran[1].words[2], "cat <<E >/y\nz\nE");
}

#[tokio::test]
async fn dropping_a_build_drops_its_command() {
    let kit = Kit::new();
    let request = kit.request("FROM base\nRUN hang\n");
    let (builder, events) = (kit.builder.clone(), sink(&Arc::default()));
    let build = tokio::spawn(async move { builder.build(request, events).await });
    kit.recorder.hanging.notified().await;
    build.abort();
    kit.recorder.dropped.notified().await;
    assert!(build.await.unwrap_err().is_cancelled());
    // The key is free again: the same step can be tried by another build.
    kit.recorder.ran.lock().unwrap().clear();
    let request = kit.request("FROM base\nRUN hang\n");
    let (builder, events) = (kit.builder.clone(), sink(&Arc::default()));
    let build = tokio::spawn(async move { builder.build(request, events).await });
    kit.recorder.hanging.notified().await;
    build.abort();
}

#[tokio::test]
async fn squashing_merges_what_was_added() {
    let kit = Kit::with_base(|files| std::fs::write(files.join("etc/keep"), "k").unwrap());
    kit.file("a", "x");
    kit.file("b/passwd", "new");
    kit.file("b/sub/f", "y");
    let text = "FROM base\nCOPY a /one\nCOPY b /etc\nCOPY b/sub /etc/keep2/\nENV Q=1\n";
    let plain = kit.build(text).await.0.unwrap();
    let mut request = kit.request(text);
    request.squash = true;
    let squashed = kit.build_with(request).await.0.unwrap();
    assert_ne!(squashed, plain);
    assert_eq!(kit.files(&squashed), kit.files(&plain));
    let config = config(&kit, &squashed);
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
    assert!(
        config["config"]["Env"]
            .as_array()
            .unwrap()
            .contains(&json!("Q=1"))
    );
}

#[tokio::test]
async fn pruning_frees_what_no_name_needs() {
    let kit = Kit::new();
    kit.file("a", &"x".repeat(10_000));
    let mut request = kit.request("FROM base\nCOPY a /kept\nENV A=1\n");
    request.tags = vec!["kept".to_owned()];
    let kept = kit.build_with(request.clone()).await.0.unwrap();
    kit.build("FROM base\nCOPY a /loose\nENV A=1\n")
        .await
        .0
        .unwrap();
    let images = kit.images.list(true).unwrap().len();
    assert!(kit.builder.prune(false).await.unwrap() >= 10_000);
    assert_eq!(kit.images.list(true).unwrap().len(), images - 2);
    assert_eq!(kit.build_with(request.clone()).await.0.unwrap(), kept);
    assert!(kit.builder.prune(true).await.unwrap() > 0);
    assert_ne!(kit.build_with(request).await.0.unwrap(), kept);
}

#[tokio::test]
async fn labels_of_the_stage_before_are_kept() {
    let kit = Kit::new();
    let text = "FROM base AS a\nLABEL x=1\nHEALTHCHECK CMD y\nSHELL [\"/bin/ash\"]\nFROM a\nENTRYPOINT z\n";
    let id = kit.build(text).await.0.unwrap();
    let config = config(&kit, &id)["config"].clone();
    assert_eq!(config["Labels"], json!({"x": "1"}));
    assert_eq!(config["Healthcheck"], json!({"Test": ["CMD-SHELL", "y"]}));
    assert_eq!(config["Shell"], json!(["/bin/ash"]));
    assert_eq!(config["Entrypoint"], json!(["/bin/ash", "z"]));
    assert_eq!(config["Cmd"], Value::Null);
}
