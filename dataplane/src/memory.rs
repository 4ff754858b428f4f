//! Where DPDK's memory comes from on this machine.

use std::fs;
use std::path::Path;

use dpdk::Memory;

const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";

/// Huge pages when enough of one size are free for `memory_mb`, ordinary pages otherwise.
#[must_use]
pub fn choose(memory_mb: u32) -> Memory {
    if free_huge_page_mb(Path::new(HUGE_PAGES)) >= u64::from(memory_mb) {
        Memory::HugePages
    } else {
        Memory::OrdinaryPages
    }
}

/// Mebibytes in free huge pages of the size that has most of them.
fn free_huge_page_mb(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    entries.flatten().filter_map(|entry| free_mb_of_size(&entry.path())).max().unwrap_or(0)
}

fn free_mb_of_size(directory: &Path) -> Option<u64> {
    let name = directory.file_name()?.to_str()?;
    let page_kb: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    let free: u64 = fs::read_to_string(directory.join("free_hugepages")).ok()?.trim().parse().ok()?;
    Some(free * page_kb / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_with_most_free_memory_counts() {
        let directory = tempfile::tempdir().unwrap();
        for (name, free) in [("hugepages-2048kB", "100\n"), ("hugepages-1048576kB", "0\n")] {
            let size = directory.path().join(name);
            fs::create_dir(&size).unwrap();
            fs::write(size.join("free_hugepages"), free).unwrap();
        }
        assert_eq!(free_huge_page_mb(directory.path()), 200);
        assert_eq!(free_huge_page_mb(&directory.path().join("absent")), 0);
    }
}
