//! The region as a file: who may take it, and every way in which it may not fit.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use shm::{BootId, Capacities, Origin, Region, RegionError, SaRuntime, Table};

const BOOT: BootId = BootId([1, 2]);

fn run_dir() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("region");
    (directory, path)
}

fn create(path: &Path) -> (Region, Origin) {
    Region::create_or_attach(path, Capacities::small(), BOOT).unwrap()
}

/// Overwrites a word of the header of a region that no one holds.
fn overwrite(path: &Path, word: u64, value: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&value.to_ne_bytes(), word * 8).unwrap();
}

fn attach_error(path: &Path) -> RegionError {
    match Region::attach(path, BOOT) {
        Ok(_) => panic!("attached to a region that does not fit"),
        Err(error) => error,
    }
}

#[test]
fn what_was_there_goes_on_after_a_restart_of_either_side() {
    let (_directory, path) = run_dir();
    let (region, origin) = create(&path);
    assert!(matches!(origin, Origin::Created));
    let id = region.region_id();
    region.sa_runtime(5).unwrap().reset(9, 1);
    drop(region);
    let (region, origin) = create(&path);
    assert!(matches!(origin, Origin::Attached));
    assert_eq!(region.region_id(), id);
    let dataplane = Region::attach(&path, BOOT).unwrap();
    assert_eq!(dataplane.region_id(), id);
    assert_eq!(dataplane.sa_runtime(5).unwrap().resume_outbound(), 1 + SaRuntime::RESUME_JUMP);
    assert!(dataplane.sa_runtime(64).is_none());
}

#[test]
fn only_the_owner_may_read_the_keys() {
    let (_directory, path) = run_dir();
    let _region = create(&path);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_second_writer_is_refused() {
    let (_directory, path) = run_dir();
    let (_region, _) = create(&path);
    let second = Region::create_or_attach(&path, Capacities::small(), BOOT);
    assert!(matches!(second.err(), Some(RegionError::Locked { role: "writer", .. })));
}

#[test]
fn a_second_dataplane_is_refused_until_the_first_is_gone() {
    let (_directory, path) = run_dir();
    let (_control, _) = create(&path);
    let first = Region::attach(&path, BOOT).unwrap();
    assert!(matches!(attach_error(&path), RegionError::Locked { role: "dataplane", .. }));
    drop(first);
    assert!(Region::attach(&path, BOOT).is_ok());
}

#[test]
fn the_dataplane_has_no_writer_and_control_no_reader() {
    let (_directory, path) = run_dir();
    let (control, _) = create(&path);
    let dataplane = Region::attach(&path, BOOT).unwrap();
    assert!(matches!(dataplane.writer().err(), Some(RegionError::Role { role: "writer" })));
    assert!(matches!(control.reader().err(), Some(RegionError::Role { role: "reader" })));
    assert!(dataplane.reader().is_ok() && control.writer().is_ok());
}

#[test]
fn no_region_is_not_found() {
    let (_directory, path) = run_dir();
    let error = attach_error(&path);
    assert!(
        matches!(&error, RegionError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound),
        "{error}"
    );
}

#[test]
fn a_file_that_is_no_region_is_left_alone() {
    let (_directory, path) = run_dir();
    let page = vec![b'x'; 8192];
    std::fs::write(&path, &page).unwrap();
    assert!(matches!(attach_error(&path), RegionError::Magic { found: 0x7878_7878_7878_7878 }));
    let taken = Region::create_or_attach(&path, Capacities::small(), BOOT);
    assert!(matches!(taken.err(), Some(RegionError::Magic { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), page);
}

#[test]
fn another_abi_is_refused_by_the_dataplane_and_replaced_by_control() {
    refused_and_replaced(
        |path| overwrite(path, 1, 99),
        |error| matches!(error, RegionError::Abi { found: 99 }),
    );
}

#[test]
fn another_layout_is_refused_by_the_dataplane_and_replaced_by_control() {
    refused_and_replaced(
        |path| overwrite(path, 3, 99),
        |error| matches!(error, RegionError::Layout { found: 99, .. }),
    );
}

#[test]
fn another_boot_is_refused_by_the_dataplane_and_replaced_by_control() {
    refused_and_replaced(|path| overwrite(path, 5, 99), |error| matches!(error, RegionError::BootId));
}

#[test]
fn absurd_capacities_are_refused_by_the_dataplane_and_replaced_by_control() {
    refused_and_replaced(
        |path| overwrite(path, 8, u64::MAX),
        |error| matches!(error, RegionError::Capacities),
    );
}

#[test]
fn a_shortened_file_is_refused_by_the_dataplane_and_replaced_by_control() {
    let shorten = |path: &Path| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(path.metadata().unwrap().len() - 4096).unwrap();
    };
    refused_and_replaced(shorten, |error| matches!(error, RegionError::Length { .. }));
    let empty = |path: &Path| OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
    refused_and_replaced(empty, |error| matches!(error, RegionError::Length { found: 0, expected: 4096 }));
}

#[test]
fn a_dataplane_learns_that_its_region_was_replaced() {
    let (_directory, path) = run_dir();
    drop(create(&path));
    let dataplane = Region::attach(&path, BOOT).unwrap();
    assert!(!dataplane.is_retired());
    let larger = Capacities { tunnels: 32, ..Capacities::small() };
    let (_region, origin) = Region::create_or_attach(&path, larger, BOOT).unwrap();
    assert!(matches!(origin, Origin::Recreated(RegionError::Capacities)));
    assert!(dataplane.is_retired());
    assert!(Region::attach(&path, BOOT).unwrap().capacities().of(Table::Tunnels) == 32);
}

fn refused_and_replaced(spoil: impl Fn(&Path), expected: impl Fn(&RegionError) -> bool) {
    let (_directory, path) = run_dir();
    drop(create(&path));
    spoil(&path);
    let error = attach_error(&path);
    assert!(expected(&error), "{error}");
    let (_region, origin) = create(&path);
    assert!(matches!(&origin, Origin::Recreated(error) if expected(error)), "{origin:?}");
    assert!(Region::attach(&path, BOOT).is_ok());
}
