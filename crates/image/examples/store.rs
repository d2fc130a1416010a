//! Drives an image store by hand: `store ROOT pull|push|load|save|list …`. For measurements and comparisons.

use std::path::Path;
use std::sync::Arc;

use wharf_image::{Images, Reference, RegistryConfig, Result};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, verb, rest @ ..] = arguments.as_slice() else {
        eprintln!(
            "usage: store ROOT pull|push REFERENCE | load|save FILE [NAME…] | tag FROM TO | snapshots NAME COUNT | list"
        );
        return Ok(());
    };
    let images = Images::open(Path::new(root), RegistryConfig::default())?;
    run(&images, verb, rest)
}

fn run(images: &Images, verb: &str, rest: &[String]) -> Result<()> {
    let progress: wharf_image::ProgressSink = Arc::new(|progress: wharf_image::Progress| {
        if progress.current_bytes.is_none() {
            println!(
                "{}{}",
                progress.id.map(|id| id + ": ").unwrap_or_default(),
                progress.status
            );
        }
    });
    let file = |path: &str| std::fs::File::open(path).map_err(failed);
    match (verb, rest) {
        ("pull", [name, ..]) => {
            let name = Reference::parse(name)?;
            block_on(images.pull(&name, None, None, progress)).map(|_| ())
        }
        ("push", [name, ..]) => {
            let name = Reference::parse(name)?;
            block_on(images.push(&name, None, progress)).map(|_| ())
        }
        ("load", [path, ..]) => {
            images
                .load(&mut file(path)?, progress)?
                .iter()
                .for_each(|name| println!("Loaded image: {name}"));
            Ok(())
        }
        ("save", [path, names @ ..]) => {
            let mut out = std::fs::File::create(path).map_err(failed)?;
            images.save(names, &mut out)
        }
        ("tag", [from, to]) => images.tag(from, to),
        ("snapshots", [name, count]) => snapshots(images, name, count.parse().unwrap_or(100)),
        _ => {
            for image in images.list(true)? {
                println!("{} {:?} {} bytes", image.id, image.tags, image.size_bytes);
            }
            Ok(())
        }
    }
}

fn failed(source: std::io::Error) -> wharf_image::Error {
    wharf_image::Error::Io {
        operation: "use a file".to_owned(),
        source,
    }
}

fn block_on<T>(future: impl std::future::Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(failed)?
        .block_on(future)
}

/// Times how long a writable root takes: prepare, mount, remove.
fn snapshots(images: &Images, name: &str, count: u32) -> Result<()> {
    let image = images.resolve(name)?;
    let mut spent = [std::time::Duration::ZERO; 3];
    for i in 0..count {
        let key = format!("bench-{i}");
        let start = std::time::Instant::now();
        images.prepare(&key, image.top.as_ref())?;
        let prepared = start.elapsed();
        let tree = images.mount(&key)?;
        let mounted = start.elapsed();
        drop(tree);
        images.remove_snapshot(&key)?;
        spent[0] += prepared;
        spent[1] += mounted - prepared;
        spent[2] += start.elapsed() - mounted;
    }
    let [prepare, mount, remove] = spent.map(|spent| spent / count);
    println!("prepare {prepare:?}, mount {mount:?}, unmount and remove {remove:?}");
    Ok(())
}
