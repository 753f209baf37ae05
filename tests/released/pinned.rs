//! Encodings as they were released, byte for byte, in hexadecimal: `tests/released/CRATE/NAME.hex`.
//!
//! A released encoding never changes, since an older release is on the other end or wrote the disk; a change is a new
//! kind with a new name here. In: what today's encoder writes of a fixed value. Out: a failed test where it differs.
//! `BLESS=1` writes what has no file yet and never replaces one.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// Bytes a line.
const LINE: usize = 32;

/// Compares `bytes` with those pinned as `name`.
pub(super) fn pinned(of: &str, name: &str, bytes: &[u8]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/released")
        .join(of);
    let path = dir.join(format!("{name}.hex"));
    let written = hexadecimal(bytes);
    if !path.exists() && std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(&dir).expect("a directory for encodings can be made");
        fs::write(&path, &written).expect("an encoding can be written");
    }
    let released = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        released,
        written,
        "{name} is released as {}, and written otherwise",
        path.display()
    );
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(LINE) {
        for byte in line {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    text
}
