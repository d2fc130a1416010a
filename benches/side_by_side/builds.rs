//! Builds and pulls: a Dockerfile of twenty steps that is all cached, and an image of eight layers.

use std::fmt::Write;
use std::fs;
use std::io::Read;

use wharf_testkit::sandbox::REGISTRY;

use crate::contest::Report;
use crate::daemons::House;

const REBUILDS: usize = 20;
const PULLS: usize = 5;
const LAYERS: usize = 8;
const LAYER_BYTES: usize = 32 << 20;

/// Builds again what is built already.
pub fn cached(report: &mut Report, ours: &House, peer: &House) {
    let measure = "rebuild of 20 steps, all cached";
    if !report.wants(measure) {
        return;
    }
    let mut dockerfile = String::from("FROM busybox\n");
    for step in 1..20 {
        let _ = match step % 3 {
            0 => writeln!(dockerfile, "COPY file /file-{step}"),
            1 => writeln!(dockerfile, "ENV STEP_{step}=yes"),
            _ => writeln!(dockerfile, "RUN echo {step} > /step-{step}"),
        };
    }
    let context = |house: &House| {
        let folder = house.sandbox.folder().join("twenty");
        fs::create_dir_all(&folder).expect("make the context");
        fs::write(folder.join("Dockerfile"), &dockerfile).expect("write the Dockerfile");
        fs::write(folder.join("file"), "content\n").expect("write a file");
        folder.display().to_string()
    };
    let build =
        |house: &House, folder: &str| drop(house.run(&["build", "-q", "-t", "twenty", folder]));
    let (our_folder, peer_folder) = (context(ours), context(peer));
    report.race(
        measure,
        REBUILDS,
        Some(0.1),
        &mut || build(ours, &our_folder),
        &mut || build(peer, &peer_folder),
    );
}

/// Pulls and unpacks an image from a registry on this machine.
pub fn pull(report: &mut Report, ours: &House, peer: &House) {
    let measure = "pull of 256 MiB in 8 layers";
    if !report.wants(measure) {
        return;
    }
    let image = format!("{REGISTRY}/bench/layers:v1");
    let _registries = [ours, peer].map(|house| {
        fs::create_dir_all(house.sandbox.folder().join("registry")).expect("make the registry");
        house.sandbox.start_registry(&[])
    });
    for house in [ours, peer] {
        let folder = house.sandbox.folder().join("layers");
        fs::create_dir_all(&folder).expect("make the context");
        let mut dockerfile = String::from("FROM busybox\n");
        for layer in 0..LAYERS {
            fs::write(folder.join(format!("{layer}")), content(layer)).expect("write a layer");
            let _ = writeln!(dockerfile, "COPY {layer} /{layer}");
        }
        fs::write(folder.join("Dockerfile"), dockerfile).expect("write the Dockerfile");
        house.run(&["build", "-q", "-t", &image, &folder.display().to_string()]);
        house.run(&["push", "-q", &image]);
        house.run(&["rmi", &image]);
    }
    let pull = |house: &House| {
        house.run(&["pull", "-q", &image]);
        house.run(&["rmi", &image]);
    };
    report.race(measure, PULLS, Some(0.4), &mut || pull(ours), &mut || {
        pull(peer)
    });
}

/// Half of it compresses, half does not, as in real layers.
fn content(layer: usize) -> Vec<u8> {
    let mut random = fs::File::open("/dev/urandom").expect("open /dev/urandom");
    let mut bytes = vec![0; LAYER_BYTES];
    for (number, block) in bytes.chunks_mut(4096).enumerate() {
        if number % 2 == 0 {
            random.read_exact(block).expect("read /dev/urandom");
        } else {
            block.fill(layer as u8);
        }
    }
    bytes
}
