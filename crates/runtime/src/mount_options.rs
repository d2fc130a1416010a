//! Mount options as fstab writes them (runtime-spec, "Linux mount options") → attributes of the new mount API.

use wharf_sys::mount::attribute as attr;

/// `MS_*` propagation bits, as mount_setattr(2) takes them.
pub mod propagation {
    pub const UNBINDABLE: u64 = 1 << 17;
    pub const PRIVATE: u64 = 1 << 18;
    pub const SLAVE: u64 = 1 << 19;
    pub const SHARED: u64 = 1 << 20;
}

/// What a list of options asks for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Options {
    /// A bind mount; `true`: with all below it.
    pub bind: Option<bool>,
    /// Attributes to set on the mount.
    pub set: u64,
    /// Attributes to clear.
    pub clear: u64,
    /// Attributes to set on the mount and all below it (`rro` …).
    pub set_recursive: u64,
    /// Attributes to clear on the mount and all below it.
    pub clear_recursive: u64,
    /// Propagation and whether it goes for all below.
    pub propagation: Vec<(u64, bool)>,
    /// Copies what the image has at the place into a tmpfs.
    pub copy_up: bool,
    /// IDs mapped; `true`: all below too.
    pub idmap: Option<bool>,
    /// Options of the file system itself: flag, or key and value.
    pub data: Vec<(String, Option<String>)>,
}

impl Options {
    /// Reads the options in order: a later one wins over an earlier one.
    pub fn parse(options: &[String]) -> Options {
        let mut parsed = Options::default();
        options.iter().for_each(|option| parsed.add(option));
        parsed
    }

    fn add(&mut self, option: &str) {
        match option {
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.idmap = Some(false),
            "ridmap" => self.idmap = Some(true),
            "defaults" | "" => {}
            _ => {
                if let Some((kind, recursive)) = propagation_of(option) {
                    self.propagation.push((kind, recursive));
                } else if let Some((set, clear)) = attribute_of(option) {
                    self.set = (self.set & !clear) | set;
                    self.clear = (self.clear & !set) | clear;
                } else if let Some((set, clear)) = option.strip_prefix('r').and_then(attribute_of) {
                    self.set_recursive = (self.set_recursive & !clear) | set;
                    self.clear_recursive = (self.clear_recursive & !set) | clear;
                } else {
                    let (key, value) = match option.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (option, None),
                    };
                    self.data.push((key.to_owned(), value));
                }
            }
        }
    }
}

/// Propagation that a word names, and whether for all below.
pub fn propagation_of(word: &str) -> Option<(u64, bool)> {
    let kind = |word: &str| match word {
        "shared" => Some(propagation::SHARED),
        "slave" => Some(propagation::SLAVE),
        "private" => Some(propagation::PRIVATE),
        "unbindable" => Some(propagation::UNBINDABLE),
        _ => None,
    };
    kind(word)
        .map(|k| (k, false))
        .or_else(|| word.strip_prefix('r').and_then(kind).map(|k| (k, true)))
}

/// Bits to set and to clear.
fn attribute_of(option: &str) -> Option<(u64, u64)> {
    Some(match option {
        "ro" => (attr::RDONLY, 0),
        "rw" => (0, attr::RDONLY),
        "nosuid" => (attr::NOSUID, 0),
        "suid" => (0, attr::NOSUID),
        "nodev" => (attr::NODEV, 0),
        "dev" => (0, attr::NODEV),
        "noexec" => (attr::NOEXEC, 0),
        "exec" => (0, attr::NOEXEC),
        // The access-time bits are one field: it is cleared whole before a value is set.
        "noatime" => (attr::NOATIME, attr::ATIME & !attr::NOATIME),
        "atime" | "relatime" => (0, attr::ATIME),
        "norelatime" | "strictatime" => (attr::STRICTATIME, attr::ATIME & !attr::STRICTATIME),
        "nostrictatime" => (0, attr::STRICTATIME),
        "nodiratime" => (attr::NODIRATIME, 0),
        "diratime" => (0, attr::NODIRATIME),
        "nosymfollow" => (attr::NOSYMFOLLOW, 0),
        "symfollow" => (0, attr::NOSYMFOLLOW),
        _ => return None,
    })
}

/// Words for mounts in general; all others go to the file system.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "atime", "bind", "defaults", "dev", "diratime", "exec", "idmap", "noatime", "nodev", "nodiratime", "noexec",
    "norelatime", "nostrictatime", "nosuid", "nosymfollow", "private", "ratime", "rbind", "rdev", "rdiratime",
    "relatime", "rexec", "ridmap", "rnoatime", "rnodev", "rnodiratime", "rnoexec", "rnorelatime", "rnostrictatime",
    "rnosuid", "rnosymfollow", "ro", "rprivate", "rrelatime", "rro", "rrw", "rshared", "rslave", "rstrictatime",
    "rsuid", "rsymfollow", "runbindable", "rw", "shared", "slave", "strictatime", "suid", "symfollow", "tmpcopyup",
    "unbindable",
];

/// The words that are understood here, sorted, for callers that ask.
pub fn known() -> &'static [&'static str] {
    WORDS
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_known_word_is_understood() {
        for word in known() {
            assert!(parse(word).data.is_empty(), "{word}");
        }
        assert!(known().is_sorted());
    }

    use super::*;

    fn parse(text: &str) -> Options {
        Options::parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_word_wins() {
        let options = parse("ro,nosuid,rw,noatime,relatime");
        assert_eq!(
            (options.set, options.clear),
            (attr::NOSUID, attr::RDONLY | attr::ATIME)
        );
    }

    #[test]
    fn words_fall_into_kinds() {
        let options = parse("rbind,rprivate,rro,mode=755,size=64m,newinstance");
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.propagation, [(propagation::PRIVATE, true)]);
        assert_eq!(options.set_recursive, attr::RDONLY);
        let data: Vec<_> = options
            .data
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_deref()))
            .collect();
        assert_eq!(
            data,
            [
                ("mode", Some("755")),
                ("size", Some("64m")),
                ("newinstance", None)
            ]
        );
        assert_eq!(
            parse("relatime").set_recursive,
            0,
            "relatime is not a recursive elatime"
        );
    }
}
