//! Image archives in the format of `docker save`, made from folders.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Packs a folder into a tar: sorted, owned by root, times at the epoch, so that the same files give the same digest.
pub fn pack(folder: &Path) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    append(&mut builder, folder, Path::new(""))?;
    builder.into_inner()
}

fn append(builder: &mut tar::Builder<Vec<u8>>, root: &Path, inside: &Path) -> io::Result<()> {
    let mut names: Vec<_> = fs::read_dir(root.join(inside))?.collect::<Result<_, _>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    for entry in names {
        let path = inside.join(entry.file_name());
        let metadata = entry.metadata()?;
        let mut header = tar::Header::new_gnu();
        header.set_metadata_in_mode(&metadata, tar::HeaderMode::Complete);
        header.set_mode(metadata.mode() & 0o7777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        if metadata.is_symlink() {
            header.set_size(0);
            builder.append_link(&mut header, &path, fs::read_link(root.join(&path))?)?;
        } else if metadata.is_dir() {
            header.set_size(0);
            builder.append_data(&mut header, &path, io::empty())?;
            append(builder, root, &path)?;
        } else {
            builder.append_data(&mut header, &path, File::open(root.join(&path))?)?;
        }
    }
    Ok(())
}

/// Writes an image of these layers (uncompressed tars, lowest first) with this `config` object of the image
/// configuration (`Cmd`, `Env` …) and these names.
pub fn write(path: &Path, names: &[&str], layers: &[Vec<u8>], config: &Value) -> io::Result<()> {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| format!("sha256:{}", hex::encode(Sha256::digest(layer))))
        .collect();
    let image = json!({
        "created": "2026-01-01T00:00:00Z",
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": diff_ids.iter().map(|_| json!({"created": "2026-01-01T00:00:00Z", "created_by": "made from Debian packages"})).collect::<Vec<_>>(),
    });
    let image = serde_json::to_vec(&image)?;
    let image_name = format!("{}.json", hex::encode(Sha256::digest(&image)));
    let layer_names: Vec<String> = diff_ids
        .iter()
        .map(|id| format!("{}/layer.tar", &id["sha256:".len()..]))
        .collect();
    let manifest = json!([{"Config": image_name, "RepoTags": names, "Layers": layer_names}]);

    let temporary = path.with_extension("new");
    let mut builder = tar::Builder::new(io::BufWriter::new(File::create(&temporary)?));
    for (name, layer) in layer_names.iter().zip(layers) {
        entry(&mut builder, name, layer)?;
    }
    entry(&mut builder, &image_name, &image)?;
    entry(
        &mut builder,
        "manifest.json",
        &serde_json::to_vec(&manifest)?,
    )?;
    builder.into_inner()?.flush()?;
    fs::rename(temporary, path)
}

fn entry(builder: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, bytes)
}
