//! What the container gives this process: memory and processors, as its control groups say.
//!
//! Both versions of cgroups, and the hybrid of the two. A limit of a group holds for every group inside
//! it, so that the smallest on the way up counts. Where nothing is said, nothing limits.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    thread::available_parallelism,
};

/// What version 1 says for "no limit" is the largest multiple of a page; anything near it is none.
const NO_LIMIT: u64 = 1 << 60;

/// What may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Container {
    /// Bytes; none: as many as the machine has.
    pub memory: Option<u64>,
    /// Processors at once, as a quota of time; none: those that the process may run on.
    pub quota: Option<f64>,
}

impl Container {
    /// Of this process.
    pub fn here() -> Self {
        Self::under(Path::new("/"))
    }

    /// The same, of a file system that lies in a folder.
    fn under(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let (groups, mounts) = (text("proc/self/cgroup"), text("proc/self/mountinfo"));
        let mut found = Self::default();
        for (memory, folders) in [
            (true, way_up(root, &groups, &mounts, "memory")),
            (false, way_up(root, &groups, &mounts, "cpu")),
        ] {
            for folder in folders {
                if memory {
                    found.memory = least(found.memory, memory_of(&folder), u64::min);
                } else {
                    found.quota = least(found.quota, quota_of(&folder), f64::min);
                }
            }
        }
        found
    }
}

impl fmt::Display for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.quota {
            Some(quota) => write!(f, "{quota} processors")?,
            None => write!(f, "{} processors", processors())?,
        }
        match self.memory {
            Some(memory) => write!(f, ", {} of memory", Size(memory)),
            None => f.write_str(", memory without a limit"),
        }
    }
}

/// Bytes for people.
#[derive(Clone, Copy, Debug)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..1_048_576 => write!(f, "{} KiB", self.0.div_ceil(1024)),
            bytes => write!(f, "{} MiB", bytes.div_ceil(1 << 20)),
        }
    }
}

/// Threads that can run at once: affinity and quota, rounded down, at least one.
pub fn processors() -> usize {
    available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

fn least<T: Copy>(one: Option<T>, other: Option<T>, min: impl Fn(T, T) -> T) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(min(one, other)),
        (one, other) => one.or(other),
    }
}

/// The folders of the groups that this process is in for a controller, from its own up.
fn way_up(root: &Path, groups: &str, mounts: &str, controller: &str) -> Vec<PathBuf> {
    let of = |line: &str, wanted: &dyn Fn(&str) -> bool| -> Option<String> {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        wanted(controllers).then(|| path.to_owned())
    };
    let first =
        groups.lines().find_map(|line| of(line, &|list| list.split(',').any(|c| c == controller)));
    let unified = groups.lines().find_map(|line| of(line, &str::is_empty));
    let mut folders = Vec::new();
    for (path, version_2) in [(first, false), (unified, true)] {
        let Some(path) = path else { continue };
        let mount = mounts.lines().find_map(|line| Mount::parse(line, version_2, controller));
        let Some(mount) = mount else { continue };
        let top = root.join(mount.point.trim_start_matches('/'));
        // A container that sees only its own group has it as the mount's root.
        let below = path.strip_prefix(&mount.root).unwrap_or_default().trim_start_matches('/');
        let own = if below.contains("..") { top.clone() } else { top.join(below) };
        folders.extend(own.ancestors().take_while(|f| f.starts_with(&top)).map(Path::to_owned));
    }
    folders
}

/// Where groups are seen.
struct Mount {
    root: String,
    point: String,
}

impl Mount {
    fn parse(line: &str, version_2: bool, controller: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut kind = after.split(' ');
        let matches = match kind.next()? {
            "cgroup2" => version_2,
            "cgroup" => !version_2 && kind.nth(1)?.split(',').any(|option| option == controller),
            _ => false,
        };
        let mut fields = before.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        matches.then(|| Self { root: root.to_owned(), point: point.to_owned() })
    }
}

fn memory_of(folder: &Path) -> Option<u64> {
    ["memory.max", "memory.limit_in_bytes"]
        .iter()
        .filter_map(|name| number(&folder.join(name)))
        .find(|&bytes| bytes < NO_LIMIT)
}

fn quota_of(folder: &Path) -> Option<f64> {
    if let Ok(text) = fs::read_to_string(folder.join("cpu.max")) {
        let mut words = text.split_whitespace();
        let (quota, period): (f64, f64) =
            (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        return Some(quota / period);
    }
    let (quota, period) =
        (number(&folder.join("cpu.cfs_quota_us"))?, number(&folder.join("cpu.cfs_period_us"))?);
    Some(quota as f64 / period.max(1) as f64)
}

/// The number in a file; none for `max` and `-1`.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw\n";
    const V1: &str = "31 23 0:27 /pod /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                      32 23 0:28 / /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n";

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let root = system(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("proc/self/mountinfo", V2),
            ("sys/fs/cgroup/a/memory.max", "268435456\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/cpu.max", "max 100000\n"),
            ("sys/fs/cgroup/a/b/cpu.max", "50000 100000\n"),
        ]);
        let found = Container::under(root.path());
        assert_eq!(found, Container { memory: Some(256 << 20), quota: Some(0.5) });
        assert_eq!(found.to_string(), "0.5 processors, 256 MiB of memory");
    }

    #[test]
    fn version_1_and_a_mount_of_the_own_group() {
        let root = system(&[
            ("proc/self/cgroup", "4:memory:/pod/x\n3:cpu,cpuacct:/\n0::/y\n"),
            ("proc/self/mountinfo", V1),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1048576\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
            ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
        ]);
        let found = Container::under(root.path());
        assert_eq!(found, Container { memory: Some(1 << 20), quota: None });
    }

    #[test]
    fn what_is_not_said_does_not_limit() {
        let found = Container::under(system(&[]).path());
        assert_eq!(found, Container::default());
        assert!(found.to_string().ends_with("memory without a limit"));
        let elsewhere =
            system(&[("proc/self/cgroup", "0::/../../x\n"), ("proc/self/mountinfo", V2)]);
        assert_eq!(Container::under(elsewhere.path()), Container::default());
    }
}
