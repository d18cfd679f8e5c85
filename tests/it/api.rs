//! The read side over real sockets, against the store in memory: every status, header and body.
//!
//! [`world`] folds events into the store as a projector does, and asks over a plain socket, so that what a
//! client library would hide or refuse (repeated headers, odd bytes) can be sent and seen.

mod account;
mod connections;
mod customer;
mod described;
mod honesty;
mod hostile;
mod jwt;
mod limits;
mod openapi;
mod tls;
mod world;

#[test]
fn the_read_side_writes_nothing_and_knows_nothing_of_kafka() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
    let (mut files, mut folders) = (0, vec![folder]);
    while let Some(folder) = folders.pop() {
        files += of_the_read_side(&folder, &mut folders);
    }
    assert!(files > 10, "{files} files are not the read side");
}

/// Looks at the files of a folder, and tells how many there are; folders in it are put with the others.
fn of_the_read_side(folder: &std::path::Path, folders: &mut Vec<std::path::PathBuf>) -> u32 {
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            folders.push(path);
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for foreign in ["WriteStore", "crate::source", "crate::projector", "rdkafka", "store::redis"] {
            assert!(!text.contains(foreign), "{} names {foreign}", path.display());
        }
        files += 1;
    }
    files
}
