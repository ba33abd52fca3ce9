//! How much memory is left: of the machine, or of the control group that the scheduler runs in if that is less.

use std::path::{Path, PathBuf};

/// In bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) total: u64,
    pub(super) available: u64,
}

fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// A value of a file of lines such as `MemAvailable:  12 kB` or `inactive_file 12`.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
}

/// The folders of a control group and those above it, below where they are mounted.
fn groups(mount: &Path, group: &str) -> Vec<PathBuf> {
    let inner = mount.join(group.trim_start_matches('/'));
    let above = inner.ancestors().take_while(|folder| folder.starts_with(mount));
    above.map(Path::to_path_buf).collect()
}

/// What a control group leaves. Files that nobody reads at the moment are given back when memory is needed.
fn group(folder: &Path, limit: &str, used: &str, idle: &str) -> Option<Memory> {
    let total = number(&folder.join(limit))?;
    let used = number(&folder.join(used))?;
    let stat = std::fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let used = used.saturating_sub(field(&stat, idle).unwrap_or(0));
    Some(Memory { total, available: total.saturating_sub(used) })
}

/// Measures it; `root` is `/`.
pub(super) fn measure(root: &Path) -> Result<Memory, String> {
    let path = root.join("proc/meminfo");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let kib = |name: &str| field(&text, name).map(|kib| kib.saturating_mul(1024));
    let (total, available) =
        kib("MemTotal").zip(kib("MemAvailable")).ok_or("/proc/meminfo does not say MemAvailable")?;
    let mut least = Memory { total, available };
    let of_process = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mount = root.join("sys/fs/cgroup");
    for line in of_process.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(name)) = (parts.next(), parts.next()) else { continue };
        let limits: Vec<Memory> = if controllers.is_empty() {
            let read = |folder: &PathBuf| group(folder, "memory.max", "memory.current", "inactive_file");
            groups(&mount, name).iter().filter_map(read).collect()
        } else if controllers.split(',').any(|controller| controller == "memory") {
            let read = |folder: &PathBuf| {
                group(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            };
            groups(&mount.join("memory"), name).iter().filter_map(read).collect()
        } else {
            Vec::new()
        };
        // A group without a limit says a number beyond what the machine has.
        for memory in limits.into_iter().filter(|memory| memory.total < total) {
            least.total = least.total.min(memory.total);
            least.available = least.available.min(memory.available);
        }
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Memory {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        measure(root.path()).unwrap()
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:  4000 kB\nMemFree: 1 kB\nMemAvailable:   3000 kB\n");

    #[test]
    fn the_tightest_group_counts_and_one_without_a_limit_does_not() {
        let free = Memory { total: 4_096_000, available: 3_072_000 };
        assert_eq!(machine(&[MEMINFO]), free);
        let v2 = machine(&[
            MEMINFO,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "5\n"),
            ("sys/fs/cgroup/a/memory.max", "1000\n"),
            ("sys/fs/cgroup/a/memory.current", "900\n"),
            ("sys/fs/cgroup/a/memory.stat", "anon 1\ninactive_file 300\n"),
        ]);
        assert_eq!(v2, Memory { total: 1000, available: 400 });
        let v1 = |limit| {
            machine(&[
                MEMINFO,
                ("proc/self/cgroup", "5:cpu:/x\n4:memory:/docker/1\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", limit),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1500"),
            ])
        };
        assert_eq!(v1("2000"), Memory { total: 2000, available: 500 });
        assert_eq!(v1("9223372036854771712"), free);
    }

    #[test]
    fn this_machine_has_memory() {
        let memory = measure(Path::new("/")).unwrap();
        assert!(memory.total > 0 && memory.available <= memory.total, "{memory:?}");
    }
}
